"""Household shapes: each function assembles one kind of thing for all of its draws. The world rescales."""

import torch

from hash3d.priors.world import textures
from hash3d.priors.world.draws import Draws
from hash3d.priors.world.materials import material, plain
from hash3d.priors.world.objects import COLUMN, ELLIPSOID, RING, SUBTRACT, Assembly, turn

LABELLED = {textures.LABEL: 0.45, textures.BAND: 0.15, textures.PLAIN: 0.2, textures.BLOTCHES: 0.1, textures.SPLIT: 0.1}


def mug(draws: Draws, shape: Assembly) -> None:
    """A cup, with or without a handle, a drink and a saucer; hollow."""
    u = draws.uniform
    tall, taper, edge = u(0.6, 1.3), u(-0.05, 0.3), u(0.05, 0.3)
    body = plain(draws)
    shape.add(
        COLUMN,
        plain(draws),
        size=(u(1.2, 1.6), 0.06, u(1.2, 1.6)),
        corner=1.0,
        rounding=0.05,
        centre=(0.0, -tall, 0.0),
        present=draws.flag(0.15),
    )
    handle = u(0.3, 0.5)
    shape.add(
        RING,
        body,
        size=(handle * u(0.8, 1.3), tall * u(0.4, 0.65), 0.1),
        corner=u(0.5, 1.0),
        rounding=u(0.08, 0.14),
        centre=(0.95 + 0.3 * handle, u(-0.1, 0.15) * tall, 0.0),
        present=draws.flag(0.8),
    )
    shape.add(COLUMN, body, size=(1.0, tall, 1.0), corner=1.0, taper=taper, rounding=edge, smooth=0.04)
    inner = draws.flag(0.5)[:, None, None]
    inside = plain(draws)
    inside = type(inside)(
        colors=torch.where(inner, body.colors, inside.colors),
        pattern=body.pattern,
        axis=body.axis,
        numbers=body.numbers,
    )
    wall = u(0.82, 0.92)
    shape.add(
        COLUMN,
        inside,
        size=(wall, tall, wall),
        corner=1.0,
        taper=taper,
        rounding=0.05,
        centre=(0.0, 0.18, 0.0),
        operation=SUBTRACT,
        smooth=0.03,
    )
    fill = wall * (1 + 0.6 * taper)
    shape.add(
        COLUMN,
        plain(draws),
        size=(fill, 0.05, fill),
        corner=1.0,
        centre=(0.0, 0.55 * tall, 0.0),
        present=draws.flag(0.4),
    )


def bottle(draws: Draws, shape: Assembly) -> None:
    """Body, shoulder, neck and cap; round, oval or nearly square."""
    u = draws.uniform
    tall, wide = u(0.9, 2.0), torch.where(draws.flag(0.45), u(0.35, 0.75), u(0.95, 1.0))
    corner = torch.where(draws.flag(0.6), u(0.95, 1.0), u(0.15, 0.8))
    body = material(draws, LABELLED)
    shape.add(
        COLUMN,
        body,
        size=(0.7, tall, 0.7 * wide),
        corner=corner,
        rounding=u(0.04, 0.25),
        taper=u(-0.12, 0.12),
        bulge=u(-0.08, 0.12),
    )
    shoulder = u(0.05, 0.5)
    same = plain(draws, body.colors[:, 0])
    shape.add(
        COLUMN,
        same,
        size=(0.5, shoulder, 0.5 * wide),
        corner=corner,
        taper=-u(0.25, 0.5),
        centre=(0.0, tall + 0.7 * shoulder, 0.0),
        smooth=0.08,
        present=draws.flag(0.7),
    )
    neck, cap = u(0.16, 0.5), u(0.1, 0.4)
    shape.add(
        COLUMN,
        plain(draws),
        size=(neck, cap, neck * wide.clamp(min=0.6)),
        corner=1.0,
        taper=-u(0, 0.5),
        rounding=0.04,
        centre=(0.0, tall + 1.5 * shoulder + 0.8 * cap, 0.0),
    )
    tip = neck * u(0.25, 0.6)
    shape.add(
        COLUMN,
        plain(draws),
        size=(tip, 0.25, tip),
        corner=1.0,
        taper=-0.3,
        centre=(0.0, tall + 1.5 * shoulder + 1.8 * cap + 0.15, 0.0),
        present=draws.flag(0.25),
    )


def tub(draws: Draws, shape: Assembly) -> None:
    """A jar, tin or tub with a lid, sometimes lying hollow without one."""
    u = draws.uniform
    tall, lid = u(0.5, 1.6), u(0.1, 0.3)
    body = material(draws, LABELLED | {textures.STRIPES: 0.1, textures.GRADIENT: 0.15})
    shape.add(
        COLUMN,
        body,
        size=(0.8, tall, 0.8),
        corner=1.0,
        taper=u(-0.15, 0.15),
        bulge=u(-0.12, 0.2),
        rounding=u(0.02, 0.2),
    )
    wide = u(0.6, 0.9)
    closed = draws.flag(0.75)
    shape.add(
        COLUMN,
        plain(draws),
        size=(wide, lid, wide),
        corner=1.0,
        rounding=u(0.02, 0.1),
        centre=(0.0, tall + 0.7 * lid, 0.0),
        present=closed,
    )
    knob = u(0.1, 0.2)
    shape.add(
        ELLIPSOID, plain(draws), size=knob, centre=(0.0, tall + 1.8 * lid, 0.0), present=closed & draws.flag(0.25)
    )
    shape.add(
        COLUMN,
        plain(draws, body.colors[:, 0]),
        size=(0.68, tall, 0.68),
        corner=1.0,
        centre=(0.0, 0.25, 0.0),
        operation=SUBTRACT,
        present=~closed,
    )


def carton(draws: Draws, shape: Assembly) -> None:
    """A box with a label; sometimes a gift with lid, ribbons and bow."""
    u = draws.uniform
    long, tall, deep = u(0.5, 1.2), u(0.25, 1.2), u(0.2, 1.0)
    gift = draws.flag(0.35)
    labels = {textures.LABEL: 0.5, textures.PLAIN: 0.2, textures.STRIPES: 0.1, textures.SPLIT: 0.1, textures.DOTS: 0.1}
    body = material(draws, labels)
    shape.add(COLUMN, body, size=(long, tall, deep), rounding=u(0.01, 0.15))
    second = material(draws, LABELLED, body.colors[:, 0])
    shape.add(
        COLUMN,
        second,
        size=(0.9 * deep, 0.9 * tall, 0.02),
        rotation=turn(1, torch.full_like(long, 1.5708)),
        centre=(long, 0.0, 0.0),
        present=draws.flag(0.4) & ~gift,
    )
    back = material(draws, LABELLED, body.colors[:, 0])
    shape.add(
        COLUMN,
        back,
        size=(0.92 * long, 0.9 * tall, 0.02),
        centre=(0.0, 0.0, -deep),
        present=draws.flag(0.5) & ~gift,
        rotation=turn(1, torch.full_like(long, 3.1416)),
    )
    over = u(1.03, 1.15)
    shape.add(
        COLUMN,
        plain(draws),
        size=(long * over, 0.18, deep * over),
        rounding=0.03,
        centre=(0.0, tall, 0.0),
        present=gift,
    )
    ribbon = plain(draws)
    strip = u(0.1, 0.2)
    shape.add(COLUMN, ribbon, size=(strip, tall + 0.15, deep * over * 1.02), centre=(0.0, 0.07, 0.0), present=gift)
    shape.add(COLUMN, ribbon, size=(long * over * 1.02, tall + 0.15, strip), centre=(0.0, 0.07, 0.0), present=gift)
    for side in (-1.0, 1.0):
        shape.add(
            ELLIPSOID,
            ribbon,
            size=(0.3, 0.18, 0.16),
            rotation=turn(2, side * u(0.2, 0.7)),
            centre=(side * 0.28, tall + 0.3, 0.0),
            present=gift,
        )
