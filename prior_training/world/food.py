# mypy: allow-redefinition-new, local-partial-types
"""Food and plants; the front is +z. Units are arbitrary."""

import math

import torch

from . import textures
from .assembly import Assembly
from .materials import material, paint
from .objects import COLUMN, ELLIPSOID, SUBTRACT, turn
from .streams import RandomStreams

QUARTER = 0.5 * math.pi


SKIN = {textures.PLAIN: 0.6, textures.GRADIENT: 0.25, textures.BLOTCHES: 0.15}


def _stem(rng: RandomStreams, shape: Assembly, top: torch.Tensor, leaf: float) -> None:
    u = rng.uniform
    at, lean = (0.0, top + 0.1, 0.0), turn(2, u(-0.4, 0.4))
    stem = paint(rng, "brown green")
    shape.add(COLUMN, "stem", stem, (0.07, u(0.18, 0.3), 0.07), at, corner=1.0, rounding=0.03, rotation=lean)
    size, at = (u(0.28, 0.45), 0.07, 0.18), (0.36, top + u(0.15, 0.3), 0.0)
    green = paint(rng, "green")
    shape.add(ELLIPSOID, "leaf", green, size, at, rotation=turn(2, u(0.1, 0.7)), present=rng.flag(leaf))


def apple(rng: RandomStreams, shape: Assembly) -> None:
    """Two blended ellipsoids, wider above, with a dent, a stem and a leaf."""
    u = rng.uniform
    skin, tall = material(rng, SKIN, names="red red green yellow"), u(0.75, 0.95)
    shape.add(ELLIPSOID, "body", skin, (1.0, tall, 1.0), (0.0, 0.1, 0.0))
    shape.add(ELLIPSOID, "", skin, (u(0.65, 0.85), 0.6, 0.75), (0.0, -0.4, 0.0), smooth=0.3)
    dent = (0.0, tall + 0.12, 0.0)
    shape.add(ELLIPSOID, "", skin, (0.35, 0.25, 0.35), dent, operation=SUBTRACT, smooth=0.25)
    _stem(rng, shape, tall - 0.05, 0.6)


def pear(rng: RandomStreams, shape: Assembly) -> None:
    """A ball below, a smaller one above."""
    u = rng.uniform
    skin, up = material(rng, SKIN, names="green green yellow"), u(0.75, 1.0)
    shape.add(ELLIPSOID, "body", skin, (u(0.75, 0.9), 0.8, 0.85))
    upper = u(0.38, 0.5)
    shape.add(ELLIPSOID, "", skin, (upper, 0.55, upper), (u(-0.1, 0.1), up, 0.0), smooth=0.45)
    _stem(rng, shape, up + 0.5, 0.5)


def lemon(rng: RandomStreams, shape: Assembly) -> None:
    """An ellipsoid with a tip at each end, lying along x."""
    u = rng.uniform
    skin, thick = material(rng, SKIN, names="yellow yellow green orange"), u(0.65, 0.8)
    shape.add(ELLIPSOID, "body", skin, (0.95, thick, thick))
    for side in (-1.0, 1.0):
        shape.add(ELLIPSOID, "", skin, (0.22, 0.18, 0.18), (side * 0.95, 0.0, 0.0), smooth=0.25)
    size, at = (0.3, 0.06, 0.16), (0.8, 0.35, 0.0)
    shape.add(ELLIPSOID, "leaf", paint(rng, "green"), size, at, rotation=turn(2, u(0.1, 0.6)), present=rng.flag(0.3))
