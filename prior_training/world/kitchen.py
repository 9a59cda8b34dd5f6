# mypy: allow-redefinition-new, local-partial-types
"""Kitchen objects; handles and spouts to the side (x), the front is +z. Units are arbitrary."""

import math

import torch

from . import textures
from .assembly import Assembly
from .materials import color, material, paint
from .objects import COLUMN, ELLIPSOID, LATHE, RING, STAR, SUBTRACT, star, turn
from .streams import RandomStreams

QUARTER = 0.5 * math.pi


PRINTED = {
    textures.PLAIN: 0.45,
    textures.STRIPES: 0.1,
    textures.DOTS: 0.1,
    textures.LOGO: 0.12,
    textures.BAND: 0.06,
    textures.CHECKS: 0.05,
    textures.GRADIENT: 0.04,
    textures.SPLIT: 0.04,
    textures.ZIGZAG: 0.04,
}


def mug(rng: RandomStreams, shape: Assembly) -> None:
    """A hollow cup with a handle of its own or the same colour, white or alike inside, with a drink or none."""
    u = rng.uniform
    tall, taper, body = u(0.75, 1.3), u(-0.05, 0.2), material(rng, PRINTED)
    same = body.colors[:, 0]
    grip, handle = u(0.3, 0.5), paint(rng, base=torch.where(rng.flag(0.6)[:, None], same, color(rng)))
    at, loop = (0.92 + 0.3 * grip, u(-0.1, 0.1) * tall, 0.0), (grip * u(0.9, 1.3), tall * u(0.4, 0.62), 0.1)
    shape.add(RING, "handle", handle, loop, at, corner=u(0.5, 1.0), rounding=u(0.09, 0.15), present=rng.flag(0.92))
    edge = torch.where(rng.flag(0.4), u(0.3, 0.55), u(0.05, 0.25))
    shape.add(COLUMN, "body", body, (1.0, tall, 1.0), corner=1.0, taper=taper, rounding=edge, smooth=0.04)
    inside = paint(rng, base=torch.where(rng.flag(0.6)[:, None], same, color(rng, "white")))
    wall, at = u(0.84, 0.92), (0.0, 0.2, 0.0)
    shape.add(
        COLUMN, "inside", inside, (wall, tall, wall), at,
        corner=1.0, taper=taper, rounding=0.05, smooth=0.03, operation=SUBTRACT,
    )  # fmt: skip
    fill, drink = wall * (1 + 0.6 * taper), paint(rng, "brown brown black white")
    shape.add(COLUMN, "drink", drink, (fill, 0.05, fill), (0.0, 0.6 * tall, 0.0), corner=1.0, present=rng.flag(0.2))


def cup(rng: RandomStreams, shape: Assembly) -> None:
    """A round tea cup on a saucer."""
    u = rng.uniform
    tall, body = u(0.5, 0.75), material(rng, PRINTED)
    same = body.colors[:, 0]
    wide, plate = u(1.3, 1.6), paint(rng, base=torch.where(rng.flag(0.5)[:, None], same, color(rng)))
    shape.add(COLUMN, "saucer", plate, (wide, 0.1, wide), (0.0, -tall, 0.0), corner=1.0, rounding=0.04, taper=0.12)
    handle = paint(rng, base=torch.where(rng.flag(0.75)[:, None], same, color(rng)))
    grip, at = (u(0.3, 0.42), tall * u(0.5, 0.65), 0.1), (1.0, 0.12, 0.0)
    shape.add(RING, "handle", handle, grip, at, corner=1.0, rounding=u(0.07, 0.11))
    bowl = (u(0.45, 0.6), u(0.65, 0.8), 0.88, 0.95, 1.0, u(1.0, 1.1))
    shape.add(LATHE, "body", body, (0.95, tall, 0.95), profile=bowl, rounding=0.03, smooth=0.03)
    inside = paint(rng, base=torch.where(rng.flag(0.6)[:, None], same, color(rng, "white")))
    shape.add(LATHE, "inside", inside, (0.85, tall, 0.85), (0.0, 0.12, 0.0), profile=bowl, operation=SUBTRACT)
    drink, at = paint(rng, "brown brown black orange"), (0.0, 0.55 * tall, 0.0)
    shape.add(COLUMN, "drink", drink, (0.83, 0.04, 0.83), at, corner=1.0, present=rng.flag(0.4))


def vase(rng: RandomStreams, shape: Assembly) -> None:
    """A turned vessel, wide below or above, with handles or without."""
    u = rng.uniform
    tall, foot, high = u(0.9, 1.4), u(0.4, 0.7), rng.flag(0.4)
    waist, belly = u(0.3, 0.5), u(0.9, 1.0)
    low = (foot, belly, u(0.75, 0.95), 0.5 + 0.3 * waist, waist, waist + u(0.05, 0.35))
    up = (foot, waist + 0.1, u(0.6, 0.8), belly, u(0.7, 0.95), waist + u(0.0, 0.2))
    profile = tuple(torch.where(high, second, first) for first, second in zip(low, up, strict=True))
    body = material(rng)
    loop, handled, handle = (0.3, 0.35 * tall, 0.1), rng.flag(0.35), paint(rng)
    for side in (-1.0, 1.0):
        at = (side * 0.45, 0.35 * tall, 0.0)
        shape.add(RING, "handle", handle, loop, at, corner=1.0, rounding=0.07, present=handled)
    shape.add(LATHE, "body", body, (0.75, tall, 0.75), profile=profile, rounding=0.03, smooth=0.02)
    mouth, dark = 0.6 * profile[5], paint(rng, "black", 0.4 * body.colors[:, 0])
    shape.add(COLUMN, "", dark, (mouth, 0.3, mouth), (0.0, tall, 0.0), corner=1.0, operation=SUBTRACT)
    stem, bloom = rng.flag(0.2), (u(0.3, 0.4), 0.35, 0.1)
    shape.add(COLUMN, "", paint(rng, "green"), (0.05, 0.4, 0.05), (0.0, tall + 0.2, 0.0), corner=1.0, present=stem)
    at, petals = (0.0, tall + 0.8, 0.0), star((rng.choice([1.0, 1.0, 1.0]) + 5).float(), 0.55)
    shape.add(STAR, "flower", paint(rng), bloom, at, profile=petals, rounding=0.05, present=stem)


def teapot(rng: RandomStreams, shape: Assembly) -> None:
    """A round pot: handle, spout, lid, knob."""
    u = rng.uniform
    tall, body = u(0.6, 0.9), material(rng)
    same = body.colors[:, 0]
    handle = paint(rng, base=torch.where(rng.flag(0.5)[:, None], same, color(rng)))
    shape.add(RING, "handle", handle, (0.4, 0.45, 0.1), (-0.9, 0.08, 0.0), corner=1.0, rounding=u(0.07, 0.11))
    lean, spout = turn(2, -u(0.55, 0.85)), (0.2, u(0.45, 0.6), 0.2)
    mouth = paint(rng, base=torch.where(rng.flag(0.6)[:, None], same, color(rng)))
    shape.add(COLUMN, "spout", mouth, spout, (1.02, 0.15, 0.0), corner=1.0, rotation=lean, taper=-0.35, smooth=0.1)
    shape.add(ELLIPSOID, "body", body, (0.9, tall, 0.9), smooth=0.06)
    shape.add(COLUMN, "", paint(rng, base=same), (0.5, 0.1, 0.5), (0.0, 0.05 - tall, 0.0), corner=1.0, smooth=0.05)
    lid = paint(rng, base=torch.where(rng.flag(0.4)[:, None], same, color(rng)))
    shape.add(ELLIPSOID, "lid", lid, (0.5, 0.2, 0.5), (0.0, 0.86 * tall, 0.0))
    shape.add(ELLIPSOID, "knob", paint(rng), u(0.1, 0.16), (0.0, 0.86 * tall + 0.27, 0.0))


def bowl(rng: RandomStreams, shape: Assembly) -> None:
    """A hollow bowl, empty or full."""
    u = rng.uniform
    tall, body = u(0.35, 0.65), material(rng, PRINTED)
    profile = (u(0.35, 0.5), u(0.6, 0.72), 0.82, 0.92, 0.98, 1.0)
    shape.add(LATHE, "body", body, (1.0, tall, 1.0), profile=profile, rounding=0.03)
    inside = paint(rng, base=torch.where(rng.flag(0.4)[:, None], body.colors[:, 0], color(rng)))
    shape.add(LATHE, "inside", inside, (0.91, tall, 0.91), (0.0, 0.12, 0.0), profile=profile, operation=SUBTRACT)
    food, high, full = material(rng, {textures.PLAIN: 0.6, textures.DOTS: 0.4}), u(0.1, 0.4), rng.flag(0.45)
    shape.add(ELLIPSOID, "filling", food, (0.85, high, 0.85), (0.0, 0.6 * tall, 0.0), present=full)
