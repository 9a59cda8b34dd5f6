# mypy: allow-redefinition-new, local-partial-types
"""Food and plants; the front is +z. Units are arbitrary."""

import math

import torch

from . import textures
from .assembly import Assembly
from .materials import WOODEN, either, material, paint, plain
from .objects import COLUMN, ELLIPSOID, RING, STAR, SUBTRACT, star, turn
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


def pumpkin(rng: RandomStreams, shape: Assembly) -> None:
    """Six ribs about the axis and a stem; some with a face."""
    u = rng.uniform
    skin, tall = plain(rng, names="orange orange green white"), u(0.55, 0.8)
    for rib in range(6):
        angle = rng.full((rib + 0.5) * math.pi / 3)
        at = (0.48 * angle.sin(), 0.0, 0.48 * angle.cos())
        shape.add(ELLIPSOID, "" if rib else "body", skin, (0.5, tall, 0.5), at, smooth=0.04)
    stem, lean = paint(rng, "green brown"), turn(2, u(-0.5, 0.5))
    shape.add(COLUMN, "stem", stem, (0.13, 0.22, 0.13), (0.0, tall + 0.05, 0.0), corner=0.4, rotation=lean, taper=-0.3)
    dark, carved = paint(rng, "black yellow"), rng.flag(0.5)
    for side in (-1.0, 1.0):
        at, eye = (side * 0.32, 0.15 * tall, 0.84), (0.14, 0.14, 0.12)
        shape.add(STAR, "eye", dark, eye, at, profile=star(3.0), present=carved, rounding=0.01)
    at = (0.0, -0.4 * tall, 0.85)
    shape.add(COLUMN, "", dark, (0.35, 0.09, 0.12), at, rounding=0.03, present=carved)


def burger(rng: RandomStreams, shape: Assembly) -> None:
    """Bun, salad, meat, cheese, bun with seeds."""
    u = rng.uniform
    bun = material(
        rng, {textures.DOTS: 0.6, textures.PLAIN: 0.25, textures.GRADIENT: 0.15}, names="orange brown yellow"
    )
    same, fat = paint(rng, base=bun.colors[:, 0]), u(0.12, 0.25)
    shape.add(COLUMN, "", same, (0.95, fat, 0.95), corner=1.0, rounding=0.12)
    kinds = ("brown red", "yellow orange", "green", "red")
    top, order = fat, rng.flag(0.5)
    for number, names in enumerate(kinds):
        thick, there = u(0.06, 0.14), rng.flag(1.0 if number < 2 else 0.7)
        here = torch.where(there, thick, 0.0)
        layer = either(order, paint(rng, names), paint(rng, kinds[number ^ 2]))
        square = number == 1
        corner, wide = (0.15, 0.85) if square else (1.0, u(0.95, 1.06))
        at, twist = (0.0, top + here, 0.0), turn(1, u(0.0, 1.5))
        size = (wide, thick, wide)
        shape.add(COLUMN, "filling", layer, size, at, corner=corner, rounding=0.05, rotation=twist, present=there)
        top = top + 1.9 * here
    high = u(0.4, 0.65)
    shape.add(ELLIPSOID, "body", bun, (0.98, high, 0.98), (0.0, top + 0.05, 0.0))
    base = (0.0, top - 0.5, 0.0)
    shape.parts.insert(0, shape.parts.pop())
    cut = paint(rng, base=0.9 * bun.colors[:, 0])
    shape.add(COLUMN, "", cut, (1.2, 0.5, 1.2), base, operation=SUBTRACT)
    shape.parts.insert(1, shape.parts.pop())


def cake(rng: RandomStreams, shape: Assembly) -> None:
    """One to three layers, with a slice cut out of some, with cherries or candles."""
    u = rng.uniform
    count, tall = rng.choice([1.0, 1.0, 1.0]) + 1, u(0.2, 0.32)
    icing = material(rng, {textures.PLAIN: 0.5, textures.STRIPES: 0.12, textures.DOTS: 0.15, textures.BAND: 0.15})
    slice_ = rng.flag(0.35)
    top = rng.full(0.0)
    for layer in range(3):
        wide, here = 1.0 - 0.27 * layer, count > layer
        paste = icing if layer == 0 else either(rng.flag(0.5), icing, plain(rng))
        role = "layer" if layer else "body"
        size = (wide, tall, wide)
        shape.add(COLUMN, role, paste, size, (0.0, top + tall, 0.0), corner=1.0, rounding=0.08, present=here)
        top = top + torch.where(here, 2 * tall, 0.0)
    crumb = plain(rng, names="brown yellow pink white")
    at, cut = (0.75, 1.0, 0.75), turn(1, rng.full(-0.35))
    shape.add(COLUMN, "inside", crumb, (0.8, 2.0, 0.6), at, operation=SUBTRACT, rotation=cut, present=slice_)
    wax, lit = paint(rng), rng.flag(0.5)
    at = (0.0, top + 0.2, 0.0)
    shape.add(COLUMN, "candle", wax, (0.06, 0.25, 0.06), at, corner=1.0, present=lit)
    shape.add(ELLIPSOID, "flame", paint(rng, "orange yellow"), (0.06, 0.12, 0.06), (0.0, top + 0.55, 0.0), present=lit)
    cherry, many = paint(rng, "red"), rng.choice([1.0, 1.0, 1.0]) + 1
    for place in range(3):
        angle = rng.full(2 * math.pi * place / 3 + 2.5)
        reach = torch.where((many == 1) & ~lit, 0.0, 0.3)
        at = (reach * angle.sin(), top + 0.06, reach * angle.cos())
        shape.add(ELLIPSOID, "cherry", cherry, 0.13, at, present=~lit & (place < many))


def ice_cream(rng: RandomStreams, shape: Assembly) -> None:
    """One to three scoops in a cone, some with a cherry."""
    u = rng.uniform
    wafer = material(rng, {textures.CHECKS: 0.5, textures.PLAIN: 0.5}, names="orange brown yellow")
    tall, count = u(0.7, 1.0), rng.choice([1.0, 1.0, 0.6]) + 1
    shape.add(COLUMN, "cone", wafer, (0.3, tall, 0.3), corner=1.0, taper=-0.85, rotation=turn(2, rng.full(math.pi)))
    up, wide = tall + 0.1, u(0.5, 0.62)
    for scoop in range(3):
        size = wide * (1 - 0.12 * scoop)
        ice = material(rng, {textures.PLAIN: 0.7, textures.BLOTCHES: 0.15, textures.DOTS: 0.15})
        where = (u(-0.06, 0.06), up, u(-0.06, 0.06))
        shape.add(ELLIPSOID, "scoop" if scoop else "body", ice, size, where, present=count > scoop, smooth=0.03)
        up = up + torch.where(count > scoop + 1, size * 1.05, 0.0)
    cherry, at = paint(rng, "red"), (0.0, up + 0.95 * wide, 0.1)
    shape.add(ELLIPSOID, "cherry", cherry, 0.15, at, present=rng.flag(0.4))


def doughnut(rng: RandomStreams, shape: Assembly) -> None:
    """A lying ring with a glaze on its upper side."""
    u = rng.uniform
    fat, flat = u(0.3, 0.42), turn(0, rng.full(QUARTER))
    wide = (0.7, 0.7, 0.1)
    shape.add(RING, "body", plain(rng, names="orange brown yellow"), wide, corner=1.0, rounding=fat, rotation=flat)
    glaze = material(rng, {textures.PLAIN: 0.4, textures.DOTS: 0.35, textures.STRIPES: 0.25})
    at = (0.0, 0.09, 0.0)
    shape.add(RING, "glaze", glaze, wide, at, corner=1.0, rounding=0.96 * fat, rotation=flat, present=rng.flag(0.8))


def mushroom(rng: RandomStreams, shape: Assembly) -> None:
    """A dome on a stem."""
    u = rng.uniform
    cap = material(
        rng, {textures.DOTS: 0.6, textures.PLAIN: 0.3, textures.BLOTCHES: 0.1}, names="red brown white orange"
    )
    wide, tall, floor = u(0.75, 1.05), u(0.6, 0.9), u(0.0, 0.3)
    shape.add(ELLIPSOID, "body", cap, (wide, tall, wide))
    under, at = paint(rng, "white", None), (0.0, -floor * tall - 0.5, 0.0)
    shape.add(COLUMN, "", under, (1.5, 0.5, 1.5), at, operation=SUBTRACT, smooth=0.08)
    thin, long = u(0.2, 0.4), u(0.4, 0.7)
    size, at = (thin, long, thin), (0.0, -floor * tall - 0.6 * long, 0.0)
    stem = plain(rng, names="white yellow brown")
    shape.add(COLUMN, "stem", stem, size, at, corner=1.0, rounding=0.1, taper=u(-0.4, 0.1), smooth=0.05)


def tree(rng: RandomStreams, shape: Assembly) -> None:
    """A trunk under a fir's cones or under a crown of balls; some in a pot."""
    u = rng.uniform
    bark, fir, leaves = (
        material(rng, WOODEN, names="brown"),
        rng.flag(0.5),
        plain(rng, names="green green green red"),
    )
    thin, tall = u(0.1, 0.2), u(0.4, 0.7)
    shape.add(COLUMN, "trunk", bark, (thin, tall, thin), corner=1.0, taper=-0.2)
    for level in range(3):
        wide = 0.45 - 0.11 * level
        at = (0.0, tall + 0.2 + 0.45 * level, 0.0)
        there = fir & (rng.flag(0.7) if level == 2 else True)
        size, role = (wide, 0.4, wide), "" if level else "body"
        shape.add(COLUMN, role, leaves, size, at, corner=1.0, taper=-0.8, present=there, rounding=0.02)
    wide = u(0.55, 0.75)
    shape.add(ELLIPSOID, "body", leaves, (wide, wide * u(0.85, 1.3), wide), (0.0, tall + 0.45, 0.0), present=~fir)
    for side in (-1.0, 1.0):
        at, there = (side * u(0.3, 0.55), tall + u(0.1, 0.5), u(-0.3, 0.3)), ~fir & rng.flag(0.6)
        shape.add(ELLIPSOID, "", leaves, u(0.3, 0.5), at, present=there, smooth=0.05)
    at = (0.0, -tall, 0.0)
    shape.add(COLUMN, "pot", plain(rng), (0.35, 0.28, 0.35), at, corner=1.0, taper=0.25, present=rng.flag(0.3))


def cactus(rng: RandomStreams, shape: Assembly) -> None:
    """A column with two arms, in a pot."""
    u = rng.uniform
    green = material(
        rng, {textures.PLAIN: 0.5, textures.STRIPES: 0.2, textures.DOTS: 0.3}, names="green green turquoise"
    )
    tall, thick, low = u(0.7, 1.0), u(0.25, 0.34), -0.75
    shape.add(COLUMN, "body", green, (thick, tall, thick), corner=1.0, rounding=0.24)
    for side in (-1.0, 1.0):
        out, up, there = thick + u(0.22, 0.35), u(-0.2, 0.3), rng.flag(0.85)
        arm = 0.55 * thick
        at, lying = (side * 0.6 * out, up, 0.0), turn(2, rng.full(QUARTER))
        shape.add(COLUMN, "", green, (arm, 0.5 * out, arm), at, corner=1.0, rounding=0.1, rotation=lying, present=there)
        size, at = (arm, 0.35, arm), (side * out, up + 0.25, 0.0)
        shape.add(COLUMN, "arm", green, size, at, corner=1.0, rounding=0.13, present=there)
    pot = plain(rng, names="orange brown red blue white")
    shape.add(COLUMN, "pot", pot, (0.5, 0.35, 0.5), (0.0, low - 0.1, 0.0), corner=1.0, taper=0.2, rounding=0.03)
    at = (0.0, tall + 0.03, 0.1)
    shape.add(ELLIPSOID, "flower", paint(rng, "pink red yellow"), (0.16, 0.1, 0.16), at, present=rng.flag(0.4))


def flower(rng: RandomStreams, shape: Assembly) -> None:
    """Petals that look to the front, a stem, leaves, a pot."""
    u = rng.uniform
    petals, count = plain(rng), (rng.choice([1.0] * 5) + 5).float()
    wide, back = u(0.5, 0.7), turn(0, u(-0.4, 0.0))
    size = (wide, wide, 0.1)
    shape.add(STAR, "body", petals, size, profile=star(count, u(0.5, 0.7)), rounding=0.09, rotation=back)
    shape.add(
        ELLIPSOID, "middle", paint(rng, "yellow orange brown"), (0.25, 0.25, 0.14), (0.0, 0.0, 0.08), rotation=back
    )
    green, long = paint(rng, "green"), u(0.5, 0.8)
    shape.add(COLUMN, "stem", green, (0.06, long, 0.06), (0.0, -long, -0.08), corner=1.0)
    for side in (-1.0, 1.0):
        at, lean, there = (side * 0.3, -1.2 * long, -0.05), turn(2, side * u(0.2, 0.7)), rng.flag(0.75)
        shape.add(ELLIPSOID, "leaf", green, (0.3, 0.12, 0.05), at, rotation=lean, present=there)
    at, potted = (0.0, -2 * long - 0.1, -0.08), rng.flag(0.6)
    shape.add(COLUMN, "pot", plain(rng), (0.38, 0.3, 0.38), at, corner=1.0, taper=0.2, rounding=0.03, present=potted)
