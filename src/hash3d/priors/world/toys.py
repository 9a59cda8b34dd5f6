"""Toy-like shapes, as in icon sets: vehicles, characters, food, hats, houses. Units are arbitrary."""

import math

import torch

from hash3d.priors.world import textures
from hash3d.priors.world.draws import Draws
from hash3d.priors.world.materials import material, plain
from hash3d.priors.world.objects import COLUMN, ELLIPSOID, RING, SUBTRACT, Assembly, turn


def stack(draws: Draws, shape: Assembly) -> None:
    """Burgers, cakes, stacked spheres and towers: two to seven layers of one axis."""
    u = draws.uniform
    count, wide = draws.choice([1.0, 1.0, 1.0, 1.0, 0.7, 0.5]) + 2, u(0.6, 1.1)
    shrink, top = u(0.75, 1.05), torch.zeros(len(draws), device=draws.device)
    square = torch.where(draws.flag(0.2), u(0.1, 0.5), u(0.99, 1.0))
    for layer in range(7):
        tall, here = u(0.08, 0.4), wide * shrink**layer * u(0.85, 1.1)
        ball = draws.flag(0.3)
        kind = torch.where(ball, ELLIPSOID, COLUMN)
        shape.add(
            kind, material(draws), size=(here, tall * torch.where(ball, 1.6, 1.0), here), corner=square,
            rounding=tall * u(0.1, 0.95), bulge=u(-0.1, 0.15), centre=(u(-0.05, 0.05), top + tall, u(-0.05, 0.05)),
            smooth=0.02, present=count > layer,
        )  # fmt: skip
        top = top + 1.85 * tall


def mushroom(draws: Draws, shape: Assembly) -> None:
    """A cap on a stem: mushrooms, umbrellas, ice creams, trees."""
    u = draws.uniform
    cap = material(draws, {textures.DOTS: 0.45, textures.PLAIN: 0.3, textures.STRIPES: 0.15, textures.BLOTCHES: 0.1})
    wide, tall = u(0.7, 1.1), u(0.5, 1.0)
    shape.add(ELLIPSOID, cap, size=(wide, tall, wide))
    floor = u(0.0, 0.6)
    shape.add(
        COLUMN, plain(draws), size=(1.5, 0.5, 1.5), centre=(0.0, -floor * tall - 0.5, 0.0), operation=SUBTRACT,
        smooth=0.08, present=draws.flag(0.8),
    )  # fmt: skip
    thin, long = u(0.12, 0.5), u(0.3, 0.8)
    shape.add(
        COLUMN, plain(draws), size=(thin, long, thin), corner=1.0, rounding=0.1, taper=u(-0.4, 0.3), bulge=u(-0.2, 0.2),
        centre=(0.0, -floor * tall - 0.6 * long, 0.0), smooth=0.05,
    )  # fmt: skip


def rocket(draws: Draws, shape: Assembly) -> None:
    """A hull with nose, window and fins."""
    u = draws.uniform
    tall, hull = u(0.8, 1.3), material(draws, {textures.PLAIN: 0.7, textures.BAND: 0.2, textures.GRADIENT: 0.1})
    shape.add(COLUMN, hull, size=(0.4, tall, 0.4), corner=1.0, taper=u(-0.2, 0.05), bulge=u(0.05, 0.3))
    accent = plain(draws)
    nose = u(0.25, 0.5)
    shape.add(
        COLUMN,
        accent,
        size=(0.22, nose, 0.22),
        corner=1.0,
        taper=-0.85,
        rounding=0.02,
        centre=(0.0, tall + 0.8 * nose, 0.0),
    )
    shape.add(COLUMN, plain(draws), size=(0.2, u(0.06, 0.2), 0.2), corner=1.0, taper=-0.4, centre=(0.0, -tall, 0.0))
    window = u(0.12, 0.2)
    shape.add(ELLIPSOID, plain(draws), size=(window, window, 0.1), centre=(0.0, 0.3 * tall, 0.45))
    out, high = u(0.2, 0.4), u(0.25, 0.5)
    four, start = draws.flag(0.5), u(0, 6.28)
    for fin in range(4):
        angle = start + fin * torch.where(four, math.pi / 2, 2 * math.pi / 3)
        reach = 0.4 + 0.5 * out
        shape.add(
            COLUMN, accent, size=(out, high, 0.06), rounding=0.04, taper=-0.4, rotation=turn(1, -angle),
            centre=(reach * angle.cos(), -tall + 0.6 * high, reach * angle.sin()), present=four | (fin < 3),
        )  # fmt: skip


def car(draws: Draws, shape: Assembly) -> None:
    """Cars, buses and trucks: body, cabin, wheels, lamps; the front is +x."""
    u = draws.uniform
    long, tall, deep = u(0.8, 1.2), u(0.2, 0.4), u(0.4, 0.6)
    body = plain(draws)
    shape.add(COLUMN, body, size=(long, tall, deep), rounding=u(0.05, 0.18))
    cabin, high = u(0.35, 0.85), u(0.2, 0.45)
    glass = material(draws, {textures.LABEL: 0.4, textures.BAND: 0.3, textures.PLAIN: 0.3}, body.colors[:, 0])
    shape.add(
        COLUMN, glass, size=(long * cabin, high, deep * 0.92), rounding=u(0.04, 0.15), taper=-u(0.0, 0.35),
        centre=(u(-0.3, 0.15), tall + 0.8 * high, 0.0), smooth=0.03,
    )  # fmt: skip
    wheel, tyre = u(0.2, 0.32), material(draws, {textures.PLAIN: 1.0}, u(0.02, 0.3)[:, None].expand(len(draws), 3))
    quarter = torch.full_like(long, math.pi / 2)
    for x in (-0.6, 0.6):
        for z in (-1.0, 1.0):
            shape.add(
                COLUMN, tyre, size=(wheel, 0.12, wheel), corner=1.0, rounding=0.05, rotation=turn(0, quarter),
                centre=(x * long, -tall, z * deep * 0.95),
            )  # fmt: skip
    lamps = plain(draws)
    for z in (-0.6, 0.6):
        shape.add(ELLIPSOID, lamps, size=0.1, centre=(long, 0.0, z * deep), present=draws.flag(0.7))


def hat(draws: Draws, shape: Assembly) -> None:
    """A brim, a crown and a band; caps, cowboy hats, bowls turned over."""
    u = draws.uniform
    felt = plain(draws)
    brim, deep = u(0.8, 1.2), u(0.7, 1.0)
    shape.add(COLUMN, felt, size=(brim, 0.07, brim * deep), corner=1.0, rounding=0.06)
    tall, wide, taper = u(0.3, 0.8), u(0.45, 0.65), u(-0.3, 0.25)
    dome = draws.flag(0.35)
    shape.add(
        torch.where(dome, ELLIPSOID, COLUMN), felt, size=(wide, tall, wide * deep), corner=1.0, taper=taper,
        rounding=u(0.03, 0.2), centre=(0.0, torch.where(dome, tall * 0.1, tall), 0.0), smooth=u(0.01, 0.2),
    )  # fmt: skip
    ring = wide * (1 - taper * 0.7) + 0.03
    shape.add(
        COLUMN, plain(draws), size=(ring, u(0.06, 0.14), ring * deep), corner=1.0, rounding=0.02,
        centre=(0.0, 0.15, 0.0), present=~dome & draws.flag(0.8),
    )  # fmt: skip


def character(draws: Draws, shape: Assembly) -> None:
    """Teddy bears, penguins, snowmen, robots: body, head, ears, arms, feet, snout, with the face at +z."""
    u = draws.uniform
    fur = plain(draws)
    belly = {textures.FACE: 0.5, textures.PLAIN: 0.3, textures.BAND: 0.1, textures.STRIPES: 0.1}
    same = fur.colors[:, 0]
    boxy = torch.where(draws.flag(0.2), COLUMN, ELLIPSOID)
    wide, tall, head = u(0.5, 0.8), u(0.5, 0.85), u(0.4, 0.65)
    shape.add(boxy, material(draws, belly, same), size=(wide, tall, wide * u(0.75, 1.0)), rounding=0.15, corner=0.3)
    other = torch.where(draws.flag(0.75)[:, None], same, plain(draws).colors[:, 0])
    face = material(draws, {textures.FACE: 0.8, textures.PLAIN: 0.2}, other)
    up = tall + 0.7 * head
    shape.add(
        boxy, face, size=(head, head * u(0.8, 1.1), head), rounding=0.1, corner=0.3, centre=(0.0, up, 0.0), smooth=0.05
    )
    ear, eared, raised = u(0.12, 0.22), draws.flag(0.6), u(0.5, 0.9)
    limb, armed = plain(draws, torch.where(draws.flag(0.6)[:, None], same, plain(draws).colors[:, 0])), draws.flag(0.75)
    droop, arm, foot, footed = u(-0.9, 0.9), u(0.3, 0.5), u(0.18, 0.3), draws.flag(0.75)
    thick = u(0.12, 0.2)
    for side in (-1.0, 1.0):
        where = (side * head * 0.75, up + head * raised, 0.0)
        shape.add(ELLIPSOID, limb, size=(ear, ear * u(0.9, 2.0), ear * 0.7), centre=where, present=eared)
        shape.add(
            ELLIPSOID, limb, size=(arm, thick, thick), rotation=turn(2, side * droop),
            centre=(side * (wide + 0.6 * arm * droop.cos()), 0.3 * tall, 0.1), present=armed, smooth=0.04,
        )  # fmt: skip
        shape.add(
            ELLIPSOID, limb, size=(foot, foot * 0.8, foot * u(0.9, 1.7)), centre=(side * wide * 0.6, -tall * 0.9, 0.25),
            present=footed, smooth=0.04,
        )  # fmt: skip
    snout = u(0.1, 0.22)
    shape.add(ELLIPSOID, plain(draws), size=(snout, snout * 0.7, u(0.1, 0.35)), centre=(0.0, up - 0.1, head))


def crown(draws: Draws, shape: Assembly) -> None:
    """A hollow band with balls on top: crowns, baskets, nests, pots with flowers."""
    u = draws.uniform
    tall, flare = u(0.25, 0.6), u(-0.2, 0.3)
    metal = material(draws)
    shape.add(COLUMN, metal, size=(0.9, tall, 0.9), corner=1.0, taper=flare)
    wall = u(0.75, 0.84)
    shape.add(
        COLUMN, plain(draws, metal.colors[:, 0]), size=(wall, tall, wall), corner=1.0, taper=flare,
        centre=(0.0, u(0.05, 0.3), 0.0), operation=SUBTRACT,
    )  # fmt: skip
    count, jewel, size = draws.choice([1.0, 1.0, 1.0]) + 5, plain(draws), u(0.1, 0.22)
    radius, low = 0.87 * (1 + flare), torch.where(draws.flag(0.7), tall, u(-0.3, 0.3))
    for ball in range(7):
        angle = 2 * math.pi * ball / count
        shape.add(
            ELLIPSOID, jewel, size=(size, size * 1.2, size), centre=(radius * angle.sin(), low, radius * angle.cos()),
            present=count > ball,
        )  # fmt: skip


def house(draws: Draws, shape: Assembly) -> None:
    """Houses, barns, lanterns and arrows: a block under a pyramid or cone, with a door, a chimney, a second block."""
    u = draws.uniform
    long, tall, deep, high = u(0.5, 0.9), u(0.35, 0.8), u(0.5, 0.9), u(0.25, 0.6)
    corner = torch.where(draws.flag(0.25), u(0.95, 1.0), u(0.0, 0.1))
    shape.add(COLUMN, material(draws), size=(long, tall, deep), corner=corner, rounding=0.02)
    over, roof = u(1.0, 1.25), material(draws)
    shape.add(
        COLUMN, roof, size=(0.55 * long * over, high, 0.55 * deep * over), corner=corner, taper=-u(0.7, 0.95),
        rounding=0.02, centre=(0.0, tall + 0.95 * high, 0.0),
    )  # fmt: skip
    shape.add(COLUMN, plain(draws), size=(0.15, 0.28, 0.05), centre=(u(-0.3, 0.3), 0.28 - tall, deep))
    shape.add(
        COLUMN,
        plain(draws),
        size=(0.1, 0.3, 0.1),
        centre=(0.5 * long, tall + high, u(-0.3, 0.3)),
        present=draws.flag(0.5),
    )
    shape.add(
        COLUMN, material(draws), size=(u(0.2, 0.5), 0.6 * tall, 0.6 * deep), centre=(long, -0.4 * tall, 0.0),
        present=draws.flag(0.35),
    )  # fmt: skip


def bust(draws: Draws, shape: Assembly) -> None:
    """A head of stone: block, brow, nose, mouth, ears; eyes cut away."""
    u = draws.uniform
    stone = plain(draws)
    long, tall, deep = u(0.4, 0.7), u(0.7, 1.0), u(0.4, 0.7)
    blend = u(0.01, 0.1)
    shape.add(COLUMN, stone, size=(long, tall, deep), rounding=u(0.05, 0.25), corner=u(0.1, 0.9), taper=u(-0.25, 0.15))
    for side in (-1.0, 1.0):
        shape.add(
            ELLIPSOID, plain(draws, stone.colors[:, 0] * 0.5), size=(0.15, 0.12, 0.2), operation=SUBTRACT,
            centre=(side * 0.4 * long, 0.25 * tall, deep),
        )  # fmt: skip
        shape.add(COLUMN, stone, size=(0.08, 0.3 * tall, 0.14), rounding=0.04, centre=(side * (long + 0.04), 0.0, 0.0))
    shape.add(COLUMN, stone, size=(0.12, 0.3, 0.15), taper=-0.5, centre=(0.0, 0.0, deep + 0.08), smooth=blend)
    shape.add(COLUMN, stone, size=(0.8 * long, 0.08, 0.1), centre=(0.0, 0.42 * tall, deep), rounding=0.05, smooth=blend)
    shape.add(COLUMN, stone, size=(0.5 * long, 0.06, 0.1), centre=(0.0, -0.5 * tall, deep), rounding=0.05, smooth=blend)
    shape.add(ELLIPSOID, plain(draws), size=(long, 0.3, deep), centre=(0.0, tall, 0.0), present=draws.flag(0.4))


def plane(draws: Draws, shape: Assembly) -> None:
    """Aeroplanes, fish, boats and birds: a long hull, a crosswise wing, a tail; the front is +x."""
    u = draws.uniform
    hull, wing = material(draws), plain(draws)
    high, deep = u(0.2, 0.4), u(0.18, 0.35)
    shape.add(ELLIPSOID, hull, size=(1.0, high, deep))
    shape.add(
        COLUMN, wing, size=(u(0.15, 0.35), 0.05, u(0.5, 1.0)), rounding=0.03, corner=u(0, 0.9),
        centre=(u(-0.1, 0.3), u(-0.1, 0.15), 0.0), present=draws.flag(0.75),
    )  # fmt: skip
    shape.add(
        COLUMN, wing, size=(u(0.1, 0.2), u(0.2, 0.4), 0.05), rounding=0.03, taper=u(-0.5, 0.3), centre=(-0.9, 0.25, 0.0)
    )
    shape.add(
        COLUMN, wing, size=(0.13, 0.04, u(0.2, 0.45)), rounding=0.03, centre=(-0.9, 0.1, 0.0), present=draws.flag(0.6)
    )
    shape.add(ELLIPSOID, plain(draws), size=(0.25, 0.15, 0.15), centre=(0.45, high * 0.7, 0.0), present=draws.flag(0.6))


def ring_toy(draws: Draws, shape: Assembly) -> None:
    """Single solids and rings: doughnuts, balls, dice, tyres, eggs, cones."""
    u = draws.uniform
    kind = torch.tensor([COLUMN, ELLIPSOID, RING], device=draws.device)[draws.choice([0.5, 0.3, 0.2])]
    ring = kind == RING
    half = u(0.4, 1.0, 3).unbind(-1)
    even = draws.flag(0.5)
    size = (half[0], torch.where(even & ring, half[0], half[1]), torch.where(even, half[0], half[2]))
    flat = turn(0, torch.where(ring & draws.flag(0.6), math.pi / 2, 0.0))
    shape.add(
        kind, material(draws), size=size, corner=torch.where(draws.flag(0.6), 1.0, u(0, 0.6)), rounding=u(0.05, 0.35),
        taper=-u(0, 0.95) * draws.flag(0.4), bulge=u(-0.2, 0.3) * draws.flag(0.3), rotation=flat,
    )  # fmt: skip
