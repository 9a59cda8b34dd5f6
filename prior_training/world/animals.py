# mypy: allow-redefinition-new, local-partial-types
"""Toys and animals, as in icon sets; the faces look to +z. Units are arbitrary."""

import math

import torch

from . import textures
from .assembly import Assembly
from .materials import color, marked, material, paint, plain
from .objects import COLUMN, ELLIPSOID, turn
from .streams import RandomStreams

QUARTER = 0.5 * math.pi


def teddy_bear(rng: RandomStreams, shape: Assembly) -> None:
    """Body with a belly, head with ears and a snout, arms, feet."""
    u = rng.uniform
    fur = color(rng, "brown brown orange white pink blue grey")
    pale = torch.where(rng.flag(0.7)[:, None], 0.45 * fur + 0.55, color(rng))
    wide, tall, head = u(0.55, 0.7), u(0.55, 0.7), u(0.5, 0.62)
    belly = marked(rng, fur, pale, eyes=False, low=-0.1)
    shape.add(ELLIPSOID, "body", belly, (wide, tall, 0.85 * wide))
    up = tall + 0.65 * head
    face = marked(rng, fur, pale, eyes=True)
    shape.add(ELLIPSOID, "head", face, (head, 0.88 * head, 0.9 * head), (0.0, up, 0.0), smooth=0.05)
    same, ear, droop, foot = paint(rng, base=fur), u(0.17, 0.23), u(-0.9, 0.4), u(0.22, 0.28)
    for side in (-1.0, 1.0):
        at = (side * 0.75 * head, up + 0.68 * head, 0.0)
        shape.add(ELLIPSOID, "ear", same, (ear, ear, 0.6 * ear), at)
        at, lean = (side * (wide + 0.18), 0.25 * tall + 0.2 * droop, 0.12), turn(2, side * droop)
        shape.add(ELLIPSOID, "arm", same, (0.36, 0.17, 0.18), at, rotation=lean, smooth=0.04)
        at = (side * 0.65 * wide, -0.85 * tall, 0.3)
        shape.add(ELLIPSOID, "foot", same, (foot, foot, 1.3 * foot), at, smooth=0.03)
    shape.add(ELLIPSOID, "snout", paint(rng, base=pale), (0.22, 0.17, 0.18), (0.0, up - 0.14, 0.85 * head))
    shape.add(ELLIPSOID, "nose", paint(rng, "black"), (0.09, 0.06, 0.06), (0.0, up - 0.05, 0.85 * head + 0.16))


def penguin(rng: RandomStreams, shape: Assembly) -> None:
    """A dark coat, a white front, beak, flippers, feet; some with a scarf."""
    u = rng.uniform
    coat, white = color(rng, "black black blue purple grey"), color(rng, "white")
    wide, tall = u(0.55, 0.68), u(0.75, 0.95)
    shape.add(ELLIPSOID, "body", marked(rng, coat, white, eyes=False, low=-0.2), (wide, tall, 0.85 * wide))
    head, up = u(0.4, 0.5), 0.85 * tall
    shape.add(ELLIPSOID, "head", marked(rng, coat, white, eyes=True, low=-0.1), head, (0.0, up, 0.05), smooth=0.1)
    orange, same, droop = paint(rng, "orange yellow"), paint(rng, base=coat), u(0.9, 1.5)
    for side in (-1.0, 1.0):
        at, lean = (side * (wide + 0.06), 0.05, 0.0), turn(2, -side * droop)
        shape.add(ELLIPSOID, "wing", same, (0.45, 0.09, 0.2), at, rotation=lean)
        shape.add(ELLIPSOID, "foot", orange, (0.2, 0.1, 0.3), (side * 0.3, -0.95 * tall, 0.25))
    lying = turn(0, rng.full(QUARTER))
    at = (0.0, up - 0.05, head + 0.1)
    shape.add(COLUMN, "beak", orange, (0.13, 0.18, 0.09), at, corner=1.0, taper=-0.85, rotation=lying)
    wrap, at, size = plain(rng), (0.0, up - 0.75 * head, 0.0), (0.8 * wide, 0.09, 0.8 * wide)
    shape.add(COLUMN, "scarf", wrap, size, at, corner=1.0, rounding=0.08, present=rng.flag(0.4))


def snowman(rng: RandomStreams, shape: Assembly) -> None:
    """Two or three balls, a carrot, a hat, a scarf, arms of twigs."""
    u = rng.uniform
    snow = color(rng, "white")
    three, low = rng.flag(0.6), u(0.55, 0.65)
    shape.add(ELLIPSOID, "body", paint(rng, base=snow), low)
    middle = 0.75 * low
    shape.add(ELLIPSOID, "", paint(rng, base=snow), middle, (0.0, 1.2 * low, 0.0), present=three)
    up, head = torch.where(three, 2.2 * low, 1.35 * low), 0.58 * low
    shape.add(ELLIPSOID, "head", marked(rng, snow, snow, eyes=True), head, (0.0, up, 0.0))
    lying, at = turn(0, rng.full(QUARTER)), (0.0, up - 0.05, head + 0.14)
    shape.add(COLUMN, "nose", paint(rng, "orange"), (0.08, 0.2, 0.08), at, corner=1.0, taper=-0.8, rotation=lying)
    felt, hatted, wrapped = paint(rng, "black red blue green"), rng.flag(0.7), rng.flag(0.7)
    top, brim = up + 0.85 * head, 0.85 * head
    shape.add(COLUMN, "", felt, (brim, 0.05, brim), (0.0, top, 0.0), corner=1.0, present=hatted)
    size = (0.62 * head, 0.24, 0.62 * head)
    shape.add(COLUMN, "hat", felt, size, (0.0, top + 0.25, 0.0), corner=1.0, present=hatted)
    ring, wide = paint(rng), 0.78 * head
    at = (0.0, up - 0.75 * head, 0.0)
    shape.add(COLUMN, "scarf", ring, (wide, 0.09, wide), at, corner=1.0, rounding=0.08, present=wrapped)
    for side in (-1.0, 1.0):
        at, lean = (side * (middle + 0.25), 1.1 * low, 0.0), turn(2, side * u(0.8, 1.3) - QUARTER)
        shape.add(COLUMN, "arm", paint(rng, "brown"), (0.04, 0.35, 0.04), at, rotation=lean, corner=1.0)


def robot(rng: RandomStreams, shape: Assembly) -> None:
    """Boxes: body with a panel, head with eyes and antenna, arms, legs."""
    u = rng.uniform
    metal, tall, wide = color(rng), u(0.45, 0.7), u(0.45, 0.6)
    panel = material(rng, {textures.LABEL: 0.5, textures.LOGO: 0.3, textures.PLAIN: 0.2}, metal)
    shape.add(COLUMN, "body", panel, (wide, tall, 0.4), rounding=0.08)
    head, up = u(0.35, 0.48), tall + 0.42
    skin = torch.where(rng.flag(0.5)[:, None], metal, color(rng))
    face = marked(rng, skin, color(rng, "white grey black"), eyes=True)
    shape.add(COLUMN, "head", face, (head, 0.32, 0.35), (0.0, up, 0.0), rounding=0.07)
    limb, thick = plain(rng), u(0.1, 0.16)
    legs, arms = u(0.25, 0.4), u(0.3, 0.5)
    for side in (-1.0, 1.0):
        at = (side * (wide + thick + 0.03), tall - arms - 0.05, 0.0)
        shape.add(COLUMN, "arm", limb, (thick, arms, thick), at, rounding=0.05, rotation=turn(2, side * u(0, 0.5)))
        shape.add(COLUMN, "leg", limb, (thick, legs, thick), (side * 0.5 * wide, -tall - legs, 0.0), rounding=0.05)
    bulb, there = paint(rng), rng.flag(0.8)
    shape.add(COLUMN, "", limb, (0.03, 0.15, 0.03), (0.0, up + 0.42, 0.0), corner=1.0, present=there)
    shape.add(ELLIPSOID, "antenna", bulb, 0.1, (0.0, up + 0.6, 0.0), present=there)


def duck(rng: RandomStreams, shape: Assembly) -> None:
    """A floating body, a round head, a flat beak."""
    u = rng.uniform
    down = color(rng, "yellow yellow white brown green")
    long, fat = u(0.65, 0.8), u(0.42, 0.52)
    shape.add(ELLIPSOID, "body", paint(rng, base=down), (fat, 0.85 * fat, long))
    crest = torch.where(rng.flag(0.7)[:, None], down, color(rng))
    head, up = u(0.32, 0.4), 0.95 * fat + 0.22
    shape.add(ELLIPSOID, "head", marked(rng, crest, crest, eyes=True), head, (0.0, up, 0.6 * long), smooth=0.1)
    beak = (0.18, 0.06, 0.2)
    shape.add(ELLIPSOID, "beak", paint(rng, "orange red yellow"), beak, (0.0, up - 0.08, 0.6 * long + head + 0.1))
    wing = paint(rng, base=torch.where(rng.flag(0.6)[:, None], 0.85 * down, color(rng)))
    for side in (-1.0, 1.0):
        at = (side * 0.92 * fat, 0.1, -0.1)
        shape.add(ELLIPSOID, "wing", wing, (0.1, 0.24, 0.42), at, rotation=turn(2, rng.full(side * 0.25)))
    shape.add(
        ELLIPSOID, "tail", paint(rng, base=down), (0.2, 0.12, 0.25), (0.0, 0.25, -long), rotation=turn(0, u(0.4, 0.8))
    )


def fish(rng: RandomStreams, shape: Assembly) -> None:
    """A flat body with tail and fins; it swims to +z."""
    u = rng.uniform
    scales = {textures.PLAIN: 0.4, textures.STRIPES: 0.3, textures.GRADIENT: 0.15, textures.DOTS: 0.15}
    skin, tall = material(rng, scales), u(0.4, 0.65)
    skin.axis[:] = torch.tensor([0.0, 0.0, 1.0], device=rng.device)
    shape.add(ELLIPSOID, "body", skin, (u(0.22, 0.32), tall, 0.85))
    fin, back = plain(rng), turn(0, rng.full(-QUARTER))
    size, at = (0.06, 0.3, u(0.3, 0.5)), (0.0, 0.0, -0.98)
    shape.add(COLUMN, "tail", fin, size, at, taper=0.7, rounding=0.04, rotation=back)
    size, at = (0.05, 0.2, u(0.25, 0.4)), (0.0, tall, -0.1)
    shape.add(COLUMN, "fin", fin, size, at, taper=-0.5, rounding=0.03, present=rng.flag(0.85))
    white, black = paint(rng, "white"), paint(rng, "black")
    for side in (-1.0, 1.0):
        shape.add(ELLIPSOID, "eye", white, (0.06, 0.12, 0.12), (side * 0.18, 0.12, 0.55))
        shape.add(ELLIPSOID, "", black, (0.05, 0.06, 0.06), (side * 0.22, 0.12, 0.58))
        at = (side * 0.3, -0.12, 0.1)
        shape.add(ELLIPSOID, "fin", fin, (0.18, 0.04, 0.13), at, rotation=turn(2, rng.full(-side * 0.6)))
