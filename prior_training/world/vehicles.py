# mypy: allow-redefinition-new, local-partial-types
"""Hats, crowns, statues, rockets, vehicles and buildings; the front is +z. Units are arbitrary."""

import math

import torch

from . import textures
from .assembly import Assembly
from .materials import WOODEN, color, material, paint, plain
from .objects import COLUMN, ELLIPSOID, LATHE, STAR, SUBTRACT, star, turn
from .streams import RandomStreams

QUARTER = 0.5 * math.pi


def hat(rng: RandomStreams, shape: Assembly) -> None:
    """A brim, a crown and a band; tall, round or leaning in."""
    u = rng.uniform
    felt = plain(rng)
    brim, deep = u(0.85, 1.15), u(0.8, 1.0)
    shape.add(COLUMN, "brim", felt, (brim, 0.07, brim * deep), corner=1.0, rounding=0.06)
    tall, wide, taper = u(0.3, 0.8), u(0.48, 0.65), u(-0.2, 0.2)
    dome, edge = rng.flag(0.3), u(0.03, 0.2)
    kind = torch.where(dome, ELLIPSOID, COLUMN)
    at = (0.0, torch.where(dome, 0.1 * tall, tall), 0.0)
    size, blend = (wide, tall, wide * deep), u(0.01, 0.1)
    shape.add(kind, "body", felt, size, at, corner=1.0, taper=taper, rounding=edge, smooth=blend)
    ring = wide * (1 - taper * 0.7) + 0.03
    size, banded = (ring, u(0.08, 0.14), ring * deep), ~dome & rng.flag(0.85)
    shape.add(COLUMN, "band", paint(rng), size, (0.0, 0.16, 0.0), corner=1.0, rounding=0.02, present=banded)
    feather, at = rng.flag(0.25), (ring, 0.45, 0.0)
    shape.add(ELLIPSOID, "feather", paint(rng), (0.06, 0.4, 0.12), at, rotation=turn(0, u(0.1, 0.5)), present=feather)


def crown(rng: RandomStreams, shape: Assembly) -> None:
    """A hollow band, plain or set with jewels, with four points and balls on them."""
    u = rng.uniform
    tall, flare = u(0.35, 0.5), u(0.05, 0.2)
    jewels = {textures.PLAIN: 0.45, textures.DOTS: 0.35, textures.BAND: 0.2}
    metal = material(rng, jewels, names="yellow yellow orange grey")
    same, radius = paint(rng, base=metal.colors[:, 0]), 0.81 * (1 + flare)
    ball, size, high = paint(rng), u(0.09, 0.13), u(0.2, 0.32)
    shape.add(COLUMN, "body", metal, (0.85, tall, 0.85), corner=1.0, taper=flare)
    for point in range(4):
        angle = rng.full(QUARTER * point)
        x, z = radius * angle.sin(), radius * angle.cos()
        spike, at = (0.34, high, 0.05), (x, tall + 0.8 * high, z)
        shape.add(COLUMN, "", same, spike, at, taper=-0.85, rotation=turn(1, angle), rounding=0.02, smooth=0.03)
        shape.add(ELLIPSOID, "ball", ball, size, (x, tall + 1.75 * high, z))
    dark = paint(rng, base=0.8 * metal.colors[:, 0])
    hole = (0.76, 1.1 * tall, 0.76)
    shape.add(COLUMN, "", dark, hole, (0.0, 0.1 * tall + 0.06, 0.0), corner=1.0, taper=flare, operation=SUBTRACT)


def statue(rng: RandomStreams, shape: Assembly) -> None:
    """A head of stone: block, brow, nose, mouth, ears; the eyes are cut away."""
    u = rng.uniform
    stone = material(rng, {textures.PLAIN: 0.8, textures.BLOTCHES: 0.2}, names="grey grey white brown green")
    same = paint(rng, base=stone.colors[:, 0])
    long, tall, deep = u(0.4, 0.6), u(0.7, 1.0), u(0.4, 0.6)
    edge = u(0.05, 0.2)
    shape.add(COLUMN, "body", stone, (long, tall, deep), rounding=edge, corner=u(0.1, 0.8), taper=u(-0.2, 0.1))
    shade = paint(rng, base=stone.colors[:, 0] * 0.6)
    for side in (-1.0, 1.0):
        at = (side * 0.42 * long, 0.25 * tall, deep)
        shape.add(ELLIPSOID, "", shade, (0.15, 0.12, 0.2), at, operation=SUBTRACT)
        shape.add(COLUMN, "ear", same, (0.08, 0.3 * tall, 0.14), (side * (long + 0.04), 0.0, 0.0), rounding=0.04)
    shape.add(COLUMN, "nose", same, (0.12, 0.3, 0.15), (0.0, 0.0, deep + 0.08), taper=-0.5, smooth=0.05)
    brow = (0.85 * long, 0.08, 0.12)
    shape.add(COLUMN, "", same, brow, (0.0, 0.42 * tall, deep), rounding=0.05, smooth=0.05)
    shape.add(COLUMN, "", same, (0.5 * long, 0.06, 0.1), (0.0, -0.55 * tall, deep), rounding=0.05, smooth=0.03)
    cap, high = paint(rng), (long * 0.95, 0.3, deep * 0.95)
    shape.add(COLUMN, "hat", cap, high, (0.0, tall + 0.1, 0.0), corner=1.0, rounding=0.1, present=rng.flag(0.25))


def rocket(rng: RandomStreams, shape: Assembly) -> None:
    """A turned hull with a nose of another colour, window, fins and flame."""
    u = rng.uniform
    hull, tall = plain(rng, names="white white grey red blue yellow"), u(1.0, 1.4)
    profile = (u(0.6, 0.8), u(0.85, 1.0), 1.0, 0.92, u(0.6, 0.75), 0.05)
    shape.add(LATHE, "body", hull, (0.42, tall, 0.42), profile=profile, rounding=0.02)
    accent, cut = paint(rng), 0.52 * tall
    nose = (1.0, 0.88, 0.7, 0.5, 0.28, 0.03)
    shape.add(LATHE, "top", accent, (0.3, 0.24 * tall, 0.3), (0.0, 0.8 * tall, 0.0), profile=nose)
    pane, at = u(0.14, 0.2), (0.0, 0.3 * cut, 0.4)
    shape.add(ELLIPSOID, "", paint(rng, "grey white black"), (pane + 0.05, pane + 0.05, 0.07), at)
    shape.add(ELLIPSOID, "window", paint(rng, "blue turquoise black"), (pane, pane, 0.1), at)
    out, high, four, start = u(0.18, 0.3), u(0.3, 0.45), rng.flag(0.5), u(0, 0.8)
    for fin in range(4):
        angle = start + fin * torch.where(four, QUARTER, 4 * QUARTER / 3)
        reach = 0.32 + 0.5 * out
        at = (reach * angle.cos(), -tall + 0.5 * high, reach * angle.sin())
        wing = (out, high, 0.06)
        shape.add(
            COLUMN,
            "fin",
            accent,
            wing,
            at,
            rounding=0.04,
            taper=-0.6,
            rotation=turn(1, -angle),
            present=four | (fin < 3),
        )
    at, drop = (0.0, -tall - 0.25, 0.0), (0.03, 0.4, 0.7, 0.95, 1.0, 0.8)
    fire = paint(rng, "orange yellow red")
    shape.add(LATHE, "flame", fire, (0.24, 0.32, 0.24), at, profile=drop, present=rng.flag(0.5))


def _wheels(
    rng: RandomStreams,
    shape: Assembly,
    wide: torch.Tensor,
    long: torch.Tensor,
    low: torch.Tensor | float,
    pairs: tuple[float, ...],
) -> None:
    """Wheels at both sides, at fractions of the half length."""
    size, dark = rng.uniform(0.2, 0.27), paint(rng, "black black black grey")
    across = turn(2, rng.full(QUARTER))
    for z in pairs:
        for x in (-1.0, 1.0):
            at = (x * wide, -low, z * long)
            shape.add(COLUMN, "wheel", dark, (size, 0.1, size), at, corner=1.0, rounding=0.04, rotation=across)


def _lights(rng: RandomStreams, shape: Assembly, wide: torch.Tensor, up: float, front: torch.Tensor) -> None:
    bulb = paint(rng, "yellow white")
    for x in (-1.0, 1.0):
        shape.add(ELLIPSOID, "light", bulb, (0.1, 0.1, 0.06), (x * 0.65 * wide, up, front))


def car(rng: RandomStreams, shape: Assembly) -> None:
    """Body, windows, roof, four wheels, two lights."""
    u = rng.uniform
    long, tall, wide = u(0.85, 1.1), u(0.2, 0.3), u(0.45, 0.55)
    body = plain(rng)
    shape.add(COLUMN, "body", body, (wide, tall, long), rounding=u(0.06, 0.16))
    cabin, high, back = u(0.5, 0.75) * long, u(0.2, 0.28), -u(0.05, 0.25)
    glass = paint(rng, "blue turquoise black grey white")
    shape.add(COLUMN, "window", glass, (0.9 * wide, high, cabin), (0.0, tall + high, back), rounding=0.06, taper=-0.14)
    same = paint(rng, base=torch.where(rng.flag(0.75)[:, None], body.colors[:, 0], color(rng)))
    shape.add(COLUMN, "roof", same, (0.8 * wide, 0.07, 0.86 * cabin), (0.0, tall + 2 * high, back), rounding=0.06)
    _wheels(rng, shape, wide, long, tall, (-0.6, 0.6))
    _lights(rng, shape, wide, 0.03, long)


def bus(rng: RandomStreams, shape: Assembly) -> None:
    """A long box with a row of windows, a windscreen, four wheels, two lights."""
    u = rng.uniform
    long, tall, wide = u(0.95, 1.3), u(0.4, 0.55), u(0.4, 0.5)
    body = plain(rng, names="red yellow blue orange green white")
    shape.add(COLUMN, "body", body, (wide, tall, long), rounding=0.08)
    glass = paint(rng, "blue turquoise black white")
    shape.add(
        COLUMN, "window", glass, (wide + 0.015, 0.36 * tall, 0.85 * long), (0.0, 0.3 * tall, -0.05), rounding=0.02
    )
    shape.add(COLUMN, "", glass, (0.85 * wide, 0.4 * tall, 0.03), (0.0, 0.3 * tall, long), rounding=0.02)
    line = paint(rng)
    shape.add(
        COLUMN, "stripe", line, (wide + 0.012, 0.05, long + 0.012), (0.0, -0.3 * tall, 0.0), present=rng.flag(0.5)
    )
    _wheels(rng, shape, 0.95 * wide, long, tall, (-0.6, 0.6))
    _lights(rng, shape, wide, -0.15, long)


def truck(rng: RandomStreams, shape: Assembly) -> None:
    """A cabin and a box behind it on wheels."""
    u = rng.uniform
    long, tall, wide = u(0.6, 0.85), u(0.4, 0.6), u(0.42, 0.52)
    box = material(rng, {textures.PLAIN: 0.6, textures.STRIPES: 0.15, textures.BAND: 0.15, textures.SPLIT: 0.1})
    shape.add(COLUMN, "trailer", box, (wide, tall, long), (0.0, tall, -0.5), rounding=0.04)
    cabin, front, high = plain(rng), long - 0.5 + 0.32, u(0.35, 0.45)
    shape.add(COLUMN, "body", cabin, (0.95 * wide, high, 0.3), (0.0, high, front), rounding=0.08)
    glass = paint(rng, "blue turquoise black white")
    shape.add(COLUMN, "window", glass, (0.96 * wide, 0.4 * high, 0.2), (0.0, 1.4 * high, front + 0.13), rounding=0.03)
    _wheels(rng, shape, 0.95 * wide, front, 0.05, (-0.9, 1.0))
    _lights(rng, shape, wide, 0.2, front + 0.3)


def aeroplane(rng: RandomStreams, shape: Assembly) -> None:
    """Hull, wings with engines, tail; it flies to +z."""
    u = rng.uniform
    hull, wing = plain(rng, names="white white grey red blue yellow"), paint(rng)
    fat, long = u(0.17, 0.26), u(0.9, 1.1)
    shape.add(ELLIPSOID, "body", hull, (fat, fat, long))
    span, high = u(0.8, 1.1), u(-0.08, 0.12)
    size = (span, 0.04, u(0.16, 0.26))
    shape.add(COLUMN, "wing", wing, size, (0.0, high, 0.1), rounding=0.03, corner=0.6)
    shape.add(
        COLUMN, "wing", wing, (span, 0.04, 0.15), (0.0, high + u(0.4, 0.5), 0.1), rounding=0.03, present=rng.flag(0.2)
    )
    tail = paint(rng, base=torch.where(rng.flag(0.5)[:, None], wing.colors[:, 0], color(rng)))
    shape.add(COLUMN, "tail", tail, (0.04, 0.25, 0.18), (0.0, 0.3, 0.08 - long), rounding=0.03, taper=-0.4)
    shape.add(COLUMN, "", tail, (0.4, 0.03, 0.12), (0.0, 0.06, 0.1 - long), rounding=0.02)
    glass = paint(rng, "blue black turquoise")
    shape.add(ELLIPSOID, "window", glass, (0.7 * fat, 0.12, 0.2), (0.0, 0.75 * fat, 0.5 * long))
    jet, lying, two = paint(rng, "grey white black"), turn(0, rng.full(QUARTER)), rng.flag(0.6)
    for side in (-1.0, 1.0):
        at = (side * 0.45 * span, high - 0.1, 0.25)
        shape.add(COLUMN, "engine", jet, (0.09, 0.18, 0.09), at, corner=1.0, rounding=0.04, rotation=lying, present=two)
    at = (0.0, 0.0, long + 0.02)
    shape.add(COLUMN, "propeller", tail, (0.35, 0.05, 0.03), at, rotation=turn(2, u(0, 3.0)), present=~two)


def boat(rng: RandomStreams, shape: Assembly) -> None:
    """A hull pointed to +z with a sail or a cabin and a chimney."""
    u = rng.uniform
    hull, tall, wide = material(rng, WOODEN | {textures.SPLIT: 0.2}), u(0.4, 0.55), u(0.36, 0.46)
    shape.add(ELLIPSOID, "body", hull, (wide, tall, 1.0))
    deck = paint(rng, "brown white grey")
    shape.add(COLUMN, "", deck, (0.8, 0.4, 1.2), (0.0, 0.4, 0.0), operation=SUBTRACT)
    sailing, cloth, mast = rng.flag(0.5), plain(rng), paint(rng, "brown")
    high = u(0.6, 0.8)
    shape.add(COLUMN, "mast", mast, (0.04, high + 0.1, 0.04), (0.0, high, 0.0), corner=1.0, present=sailing)
    side = turn(1, rng.full(QUARTER))
    for z, scale in ((-0.28, 1.0), (0.3, 0.8)):
        size, at = (0.5 * scale, 0.62 * scale * high, 0.03), (0.0, high * scale + 0.12, z)
        shape.add(STAR, "sail", cloth, size, at, profile=star(3.0), rotation=side, present=sailing)
    cabin, glass = plain(rng), paint(rng, "blue black turquoise")
    shape.add(COLUMN, "cabin", cabin, (0.65 * wide, 0.28, 0.35), (0.0, 0.2, -0.15), rounding=0.04, present=~sailing)
    shape.add(COLUMN, "window", glass, (0.5 * wide, 0.09, 0.36), (0.0, 0.32, -0.13), present=~sailing)
    pipe = paint(rng)
    shape.add(
        COLUMN, "chimney", pipe, (0.1, 0.25, 0.1), (0.0, 0.65, -0.25), corner=1.0, present=~sailing & rng.flag(0.7)
    )


def house(rng: RandomStreams, shape: Assembly) -> None:
    """Walls, a gable or a pyramid roof, a door and windows on the front, a chimney."""
    u = rng.uniform
    long, tall, deep, high = u(0.55, 0.85), u(0.4, 0.7), u(0.5, 0.8), u(0.3, 0.5)
    shape.add(COLUMN, "body", material(rng, WOODEN), (long, tall, deep), rounding=0.02)
    gable, over, tiles = rng.flag(0.6), u(1.1, 1.25), material(rng, {textures.PLAIN: 0.7, textures.STRIPES: 0.3})
    size, at = (1.15 * over * long, 0.9 * high, over * deep), (0.0, tall + 0.43 * high, 0.0)
    shape.add(STAR, "roof", tiles, size, at, profile=star(3.0), rounding=0.02, present=gable)
    size, at = (0.55 * over * long, high, 0.55 * over * deep), (0.0, tall + 0.95 * high, 0.0)
    shape.add(COLUMN, "roof", tiles, size, at, taper=-0.85, rounding=0.02, present=~gable)
    door = paint(rng)
    at = (u(-0.15, 0.15), 0.26 - tall, deep)
    shape.add(COLUMN, "door", door, (0.13, 0.26, 0.04), at)
    glass = paint(rng, "blue turquoise yellow white black")
    for side in (-1.0, 1.0):
        shape.add(COLUMN, "window", glass, (0.13, 0.13, 0.03), (side * 0.62 * long, 0.25 * tall, deep))
    at, smoke = (0.5 * long, tall + 0.9 * high, -0.2), rng.flag(0.6)
    shape.add(COLUMN, "chimney", plain(rng), (0.1, 0.3, 0.1), at, present=smoke)


def castle(rng: RandomStreams, shape: Assembly) -> None:
    """Walls, four round towers under pointed roofs, a gate."""
    u = rng.uniform
    stone = plain(rng, names="grey grey white brown yellow pink")
    tall, tower = u(0.3, 0.45), u(0.5, 0.75)
    shape.add(COLUMN, "body", stone, (0.65, tall, 0.65))
    tiles, same, thick = paint(rng), paint(rng, base=stone.colors[:, 0]), u(0.17, 0.24)
    for x in (-0.65, 0.65):
        for z in (-0.65, 0.65):
            shape.add(COLUMN, "tower", same, (thick, tower, thick), (x, tower - tall, z), corner=1.0)
            size, at = (0.62 * thick, 0.25, 0.62 * thick), (x, 2 * tower - tall + 0.22, z)
            shape.add(COLUMN, "roof", tiles, size, at, corner=1.0, taper=-0.9, rounding=0.02)
    shape.add(COLUMN, "door", paint(rng, "brown black"), (0.17, 0.22, 0.05), (0.0, 0.2 - tall, 0.66), rounding=0.03)
