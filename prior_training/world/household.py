# mypy: allow-redefinition-new, local-partial-types
"""Containers (bottles, jars, boxes), soap and a stapler. Each function assembles one noun for all of its samples.

Units are arbitrary, the world rescales; the front is +z, labels are on it.
"""

import math

import torch

from . import textures
from .assembly import Assembly
from .materials import LABELLED, color, material, paint, plain
from .objects import COLUMN, ELLIPSOID, LATHE, RING, SUBTRACT, turn
from .streams import RandomStreams


def bottle(rng: RandomStreams, shape: Assembly) -> None:
    """Body, shoulder, neck and cap; round, oval or nearly square; or turned in one piece."""
    u = rng.uniform
    tall, wide = u(0.9, 2.0), torch.where(rng.flag(0.45), u(0.35, 0.75), u(0.95, 1.0))
    corner = torch.where(rng.flag(0.6), u(0.95, 1.0), u(0.15, 0.8))
    body, one = material(rng, LABELLED), rng.flag(0.35)
    thick, bend, edge = (0.7, tall, 0.7 * wide), u(-0.08, 0.12), u(0.04, 0.25)
    shape.add(COLUMN, "body", body, thick, corner=corner, rounding=edge, taper=u(-0.12, 0.12), bulge=bend, present=~one)
    turned = (0.9, 1.0, u(0.8, 1.1), u(0.8, 1.1), u(0.35, 0.9), u(0.25, 0.4))
    shape.add(LATHE, "body", body, (0.75, 1.15 * tall, 0.75 * wide), profile=turned, rounding=0.02, present=one)
    shoulder = torch.where(one, 0.1 * tall, u(0.05, 0.5))
    slope, same, here = -u(0.25, 0.5), paint(rng, base=body.colors[:, 0]), rng.flag(0.7) & ~one
    size, at = (0.5, shoulder, 0.5 * wide), (0.0, tall + 0.7 * shoulder, 0.0)
    shape.add(COLUMN, "", same, size, at, corner=corner, taper=slope, smooth=0.08, present=here)
    neck, cap = u(0.16, 0.45), u(0.1, 0.4)
    up = tall + 1.5 * shoulder
    lid, round_ = plain(rng), neck * wide.clamp(min=0.6)
    at = (0.0, up + 0.8 * cap, 0.0)
    shape.add(COLUMN, "cap", lid, (neck, cap, round_), at, corner=1.0, taper=-u(0, 0.5), rounding=0.04)
    tip, spike = neck * u(0.25, 0.6), rng.flag(0.2)
    shape.add(
        COLUMN, "", lid, (tip, 0.25, tip), (0.0, up + 1.8 * cap + 0.15, 0.0), corner=1.0, taper=-0.3, present=spike
    )
    _back_label(rng, shape, (0.42, 0.5 * tall, 0.02), (0.0, 0.0, 0.02 - 0.7 * wide), rng.flag(0.1) & ~one)


def _back_label(rng: RandomStreams, shape: Assembly, size: object, at: object, present: torch.Tensor) -> None:
    back = material(rng, {textures.LABEL: 0.6, textures.PLAIN: 0.4}, names="white yellow")
    half_turn = turn(1, torch.full((len(rng),), math.pi, device=rng.device))
    shape.add(COLUMN, "", back, size, at, rotation=half_turn, present=present)


def spray_bottle(rng: RandomStreams, shape: Assembly) -> None:
    """A flat body, a neck, a head with nozzle and trigger to the front (-x here turned to +z by the head's length)."""
    u = rng.uniform
    tall, wide = u(0.8, 1.3), u(0.5, 0.75)
    body = material(rng, LABELLED)
    side = torch.full_like(tall, 0.5 * math.pi)
    deep = wide * u(0.55, 0.9)
    shape.add(COLUMN, "body", body, (deep, tall, wide), corner=u(0.3, 1.0), rounding=0.08, taper=-u(0.0, 0.3))
    head, neck = plain(rng), u(0.3, 0.5)
    up = tall + neck
    shape.add(COLUMN, "neck", plain(rng), (0.17, neck, 0.17), (0.0, up, 0.0), corner=1.0)
    shape.add(COLUMN, "cap", head, (0.2, 0.17, u(0.4, 0.6)), (0.0, up + neck, 0.2), rounding=0.06)
    shape.add(COLUMN, "", head, (0.1, 0.12, 0.1), (0.0, up + neck, 0.85), corner=1.0, rotation=turn(0, side))
    lever, lean = paint(rng), turn(0, u(-0.7, -0.2))
    shape.add(COLUMN, "trigger", lever, (0.09, u(0.25, 0.35), 0.08), (0.0, up, 0.5), rotation=lean, rounding=0.04)


def jar(rng: RandomStreams, shape: Assembly) -> None:
    """A round body with a lid, or open and hollow."""
    u = rng.uniform
    tall, lid, wide, closed = u(0.5, 1.3), u(0.1, 0.3), u(0.6, 0.9), rng.flag(0.8)
    body = material(rng, LABELLED | {textures.GRADIENT: 0.1})
    edge = u(0.02, 0.2)
    shape.add(
        COLUMN, "body", body, (0.8, tall, 0.8), corner=1.0, taper=u(-0.15, 0.1), bulge=u(-0.1, 0.2), rounding=edge
    )
    cover, at = plain(rng), (0.0, tall + 0.7 * lid, 0.0)
    shape.add(COLUMN, "lid", cover, (wide, lid, wide), at, corner=1.0, rounding=u(0.02, 0.1), present=closed)
    knob = closed & rng.flag(0.25)
    shape.add(ELLIPSOID, "knob", paint(rng), u(0.1, 0.2), (0.0, tall + 1.9 * lid, 0.0), present=knob)
    inside = paint(rng, base=body.colors[:, 0])
    hole = (0.68, tall, 0.68)
    shape.add(COLUMN, "inside", inside, hole, (0.0, 0.25, 0.0), corner=1.0, operation=SUBTRACT, present=~closed)


def tin_can(rng: RandomStreams, shape: Assembly) -> None:
    """A cylinder with metal rims."""
    u = rng.uniform
    tall, wide = u(0.5, 1.3), 0.75
    shape.add(COLUMN, "body", material(rng, LABELLED), (wide, tall, wide), corner=1.0, rounding=0.03)
    metal = paint(rng, "grey")
    for side in (-1.0, 1.0):
        shape.add(
            COLUMN, "rim", metal, (1.03 * wide, 0.06, 1.03 * wide), (0.0, side * tall, 0.0), corner=1.0, rounding=0.03
        )
    up = tall + 0.03
    dent = (0.9 * wide, 0.05, 0.9 * wide)
    shape.add(COLUMN, "", metal, dent, (0.0, up + 0.03, 0.0), corner=1.0, operation=SUBTRACT)
    ring = turn(0, torch.full_like(tall, 0.5 * math.pi))
    pull = (0.16, 0.22, 0.04)
    shape.add(RING, "", metal, pull, (0.0, up, 0.2), corner=1.0, rounding=0.04, rotation=ring, present=rng.flag(0.5))


def box(rng: RandomStreams, shape: Assembly) -> None:
    """A box with print on the front, on the right side and on the back, all different."""
    u = rng.uniform
    long, tall, deep = u(0.5, 1.2), u(0.3, 1.2), u(0.2, 0.9)
    body = material(rng, LABELLED | {textures.DOTS: 0.04, textures.CHECKS: 0.04, textures.WOOD: 0.05})
    edge = u(0.01, 0.12)
    shape.add(COLUMN, "body", body, (long, tall, deep), rounding=edge)
    printed = {textures.LABEL: 0.5, textures.LOGO: 0.3, textures.SPLIT: 0.1, textures.PLAIN: 0.1}
    side, back = material(rng, printed, body.colors[:, 0]), material(rng, printed, body.colors[:, 0])
    quarter = torch.full_like(long, 0.5 * math.pi)
    at, many = (long - 0.005, 0.0, 0.0), rng.flag(0.6)
    size = (deep - edge, tall - edge, 0.02)
    shape.add(COLUMN, "", side, size, at, rotation=turn(1, quarter), present=many)
    size, other = (
        (long - edge, tall - edge, 0.02),
        torch.where(rng.flag(0.5)[:, None], side.colors[:, 1], color_of(rng)),
    )
    back = paint(rng, base=other)
    shape.add(COLUMN, "", back, size, (0.0, 0.0, 0.005 - deep), rotation=turn(1, 2 * quarter), present=rng.flag(0.2))
    top = paint(rng)
    shape.add(
        COLUMN, "lid", top, (1.04 * long, 0.12, 1.04 * deep), (0.0, tall, 0.0), rounding=0.02, present=rng.flag(0.15)
    )


def color_of(rng: RandomStreams) -> torch.Tensor:
    """A colour by itself."""
    return paint(rng).colors[:, 0]


def gift_box(rng: RandomStreams, shape: Assembly) -> None:
    """A box with a lid, two ribbons and a bow."""
    u = rng.uniform
    long, tall, deep = u(0.6, 1.1), u(0.4, 1.1), u(0.6, 1.0)
    wrap = {
        textures.PLAIN: 0.5,
        textures.DOTS: 0.18,
        textures.STRIPES: 0.12,
        textures.CHECKS: 0.08,
        textures.ZIGZAG: 0.06,
    }
    body = material(rng, wrap)
    shape.add(COLUMN, "body", body, (long, tall, deep), rounding=u(0.02, 0.1))
    over, same = u(1.03, 1.12), rng.flag(0.5)
    cover = paint(rng, base=torch.where(same[:, None], body.colors[:, 0], color_of(rng)))
    shape.add(COLUMN, "lid", cover, (long * over, 0.18, deep * over), (0.0, tall, 0.0), rounding=0.03)
    ribbon, strip = paint(rng), u(0.1, 0.2)
    shape.add(COLUMN, "ribbon", ribbon, (strip, tall + 0.12, deep * over * 1.03), (0.0, 0.08, 0.0))
    shape.add(COLUMN, "", ribbon, (long * over * 1.03, tall + 0.12, strip), (0.0, 0.08, 0.0))
    for side in (-1.0, 1.0):
        lean = turn(2, side * u(0.2, 0.7))
        shape.add(ELLIPSOID, "", ribbon, (0.3, 0.18, 0.16), (side * 0.28, tall + 0.32, 0.0), rotation=lean)
    shape.add(ELLIPSOID, "bow", ribbon, 0.13, (0.0, tall + 0.3, 0.0))


def milk_carton(rng: RandomStreams, shape: Assembly) -> None:
    """A square column under a gable with a fin on top; sometimes a screw cap."""
    u = rng.uniform
    tall, wide = u(0.7, 1.2), 0.55
    body = material(rng, LABELLED)
    shape.add(COLUMN, "body", body, (wide, tall, wide), rounding=0.02)
    second = paint(rng, base=torch.where(rng.flag(0.5)[:, None], body.colors[:, 0], body.colors[:, 1]))
    up = tall + 0.2
    wedge = turn(2, torch.full_like(tall, 0.0))
    for side in (-1.0, 1.0):
        slope = turn(0, torch.full_like(tall, side * 0.72))
        at = (0.0, tall + 0.19, side * 0.27)
        shape.add(COLUMN, "top" if side > 0 else "", second, (wide, 0.03, 0.36), at, rotation=slope)
    shape.add(COLUMN, "", second, (0.98 * wide, 0.2, 0.25), (0.0, tall + 0.1, 0.0), rotation=wedge)
    shape.add(COLUMN, "", second, (wide, 0.12, 0.04), (0.0, up + 0.3, 0.0))
    lean = turn(0, torch.full_like(tall, 0.72))
    at = (0.0, tall + 0.26, 0.3)
    shape.add(COLUMN, "cap", paint(rng), (0.17, 0.1, 0.17), at, corner=1.0, rotation=lean, present=rng.flag(0.5))


def bucket(rng: RandomStreams, shape: Assembly) -> None:
    """A wide-topped hollow with a hoop handle."""
    u = rng.uniform
    tall, flare = u(0.6, 0.9), u(0.1, 0.25)
    body = material(rng, LABELLED | {textures.WOOD: 0.12})
    shape.add(COLUMN, "body", body, (0.75, tall, 0.75), corner=1.0, taper=flare)
    hoop, grip = paint(rng, "grey black white"), rng.flag(0.85)
    rim = 0.75 * (1 + flare)
    shape.add(RING, "handle", hoop, (rim, u(0.5, 0.8), 0.1), (0.0, tall, 0.0), corner=1.0, rounding=0.05, present=grip)
    inside = paint(rng, base=0.8 * body.colors[:, 0])
    shape.add(COLUMN, "", inside, (0.67, tall, 0.67), (0.0, 0.12, 0.0), corner=1.0, taper=flare, operation=SUBTRACT)
    at = (0.0, tall - 0.06, 0.0)
    shape.add(RING, "rim", plain(rng), (rim - 0.03, rim - 0.03, 0.1), at, corner=1.0, rounding=0.06,
              rotation=turn(0, torch.full_like(tall, 0.5 * math.pi)), present=rng.flag(0.5))  # fmt: skip


def soap_bar(rng: RandomStreams, shape: Assembly) -> None:
    """A flat rounded bar, some with a waist, some with a mark pressed in."""
    u = rng.uniform
    deep, flat = u(0.45, 0.7), u(0.2, 0.35)
    body = material(rng, {textures.PLAIN: 0.6, textures.GRADIENT: 0.15, textures.BLOTCHES: 0.15, textures.SPLIT: 0.1})
    corner = torch.where(rng.flag(0.6), u(0.8, 1.0), u(0.3, 0.6))
    shape.add(COLUMN, "body", body, (1.0, flat, deep), corner=corner, rounding=flat * u(0.6, 0.95), bulge=u(0, 0.1))
    waist = rng.flag(0.35)
    for side in (-1.0, 1.0):
        at = (0.0, 0.0, side * (deep + 0.28))
        shape.add(ELLIPSOID, "", body, (0.4, 2.0, 0.25), at, operation=SUBTRACT, smooth=0.2, present=waist)
    mark, at = paint(rng, base=0.75 * body.colors[:, 0]), (0.0, flat + 0.02, 0.0)
    shape.add(ELLIPSOID, "", mark, (0.5, 0.07, 0.5 * deep), at, operation=SUBTRACT, present=rng.flag(0.4) & ~waist)


def stapler(rng: RandomStreams, shape: Assembly) -> None:
    """A base and a lid that meet at a hinge; the mouth is at +x."""
    u = rng.uniform
    angle, deep = u(0.1, 0.5), u(0.2, 0.35)
    lower, upper = u(0.08, 0.16), u(0.14, 0.26)
    main = plain(rng)
    foot = paint(rng, base=torch.where(rng.flag(0.7)[:, None], main.colors[:, 0], color(rng, "black grey")))
    shape.add(COLUMN, "base", foot, (1.0, lower, deep), rounding=0.06)
    rotation, lift = turn(2, angle), lower + upper * 0.8
    rail = paint(rng, "grey")
    for thickness, offset, metal, role in ((upper, 0.0, main, "body"), (upper * 0.4, -0.9, rail, "")):
        across = lift + offset * upper + 0.15
        at = (-1.0 + angle.cos() - across * angle.sin(), angle.sin() + across * angle.cos(), 0.0)
        size = (1.0, thickness, deep * (0.95 if role else 0.7))
        shape.add(COLUMN, role, metal, size, at, rounding=0.07, rotation=rotation)
    shape.add(COLUMN, "", foot, (0.2, lower + upper, deep * 0.9), (-0.85, upper, 0.0), rounding=0.05)
