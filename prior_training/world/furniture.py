# mypy: allow-redefinition-new, local-partial-types
"""Furniture, devices and books; the front is +z. Units are arbitrary."""

import math

import torch

from . import textures
from .assembly import Assembly
from .materials import WOODEN, color, either, material, paint, plain
from .objects import COLUMN, ELLIPSOID, LATHE, STAR, Material, star, turn
from .streams import RandomStreams

QUARTER = 0.5 * math.pi


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


def _legs(
    rng: RandomStreams,
    shape: Assembly,
    coat: Material,
    wide: torch.Tensor,
    deep: torch.Tensor,
    tall: torch.Tensor,
    thin: torch.Tensor,
) -> None:
    round_ = torch.where(rng.flag(0.4), 1.0, 0.1)
    for x in (-1.0, 1.0):
        for z in (-1.0, 1.0):
            at = (x * (wide - 1.4 * thin), 0.0, z * (deep - 1.4 * thin))
            shape.add(COLUMN, "leg", coat, (thin, tall, thin), at, corner=round_, taper=0.2)


def chair(rng: RandomStreams, shape: Assembly) -> None:
    """Seat, four legs, back, arms."""
    u = rng.uniform
    wide, deep, tall = u(0.5, 0.65), u(0.5, 0.6), u(0.4, 0.55)
    wood = material(rng, WOODEN)
    seat = plain(rng, torch.where(rng.flag(0.6)[:, None], wood.colors[:, 0], color(rng)))
    shape.add(COLUMN, "seat", seat, (wide, u(0.06, 0.12), deep), (0.0, tall, 0.0), rounding=0.05)
    high = u(0.45, 0.7)
    shape.add(COLUMN, "body", wood, (wide, high, 0.07), (0.0, tall + high, 0.07 - deep), rounding=0.05, corner=0.3)
    _legs(rng, shape, paint(rng, base=wood.colors[:, 0]), wide, deep, tall, u(0.06, 0.09))
    armed = rng.flag(0.3)
    for side in (-1.0, 1.0):
        at = (side * wide, tall + 0.3, 0.0)
        shape.add(COLUMN, "arm", seat, (0.06, 0.05, deep), at, rounding=0.04, present=armed)


def table(rng: RandomStreams, shape: Assembly) -> None:
    """A round or square top on four legs or on one foot, with a drawer or none."""
    u = rng.uniform
    long, deep, tall, round_ = u(0.65, 1.2), u(0.5, 0.75), u(0.35, 0.65), rng.flag(0.4)
    wood, leg = material(rng, WOODEN), plain(rng)
    leg = either(rng.flag(0.6), paint(rng, base=wood.colors[:, 0]), leg)
    deep = torch.where(round_, long, deep)
    corner = torch.where(round_, 1.0, 0.1)
    shape.add(COLUMN, "body", wood, (long, u(0.05, 0.1), deep), (0.0, tall, 0.0), corner=corner, rounding=0.03)
    inner = torch.where(round_, 0.7, 0.97)
    _legs(rng, shape, leg, inner * long, inner * deep, tall, u(0.06, 0.1))
    drawer = rng.flag(0.35) & ~round_
    shape.add(COLUMN, "drawer", plain(rng), (0.5 * long, 0.1, 0.08), (0.0, tall - 0.14, deep - 0.1), present=drawer)


def sofa(rng: RandomStreams, shape: Assembly) -> None:
    """Seat, back, arms, cushions."""
    u = rng.uniform
    long, cloth = u(0.7, 1.2), material(rng, {textures.PLAIN: 0.75, textures.STRIPES: 0.1, textures.CHECKS: 0.1})
    same = paint(rng, base=cloth.colors[:, 0])
    shape.add(COLUMN, "body", cloth, (long, 0.2, 0.5), rounding=0.08)
    shape.add(COLUMN, "", same, (long, u(0.4, 0.5), 0.16), (0.0, 0.2, -0.42), rounding=0.12)
    for side in (-1.0, 1.0):
        shape.add(COLUMN, "", same, (0.15, 0.36, 0.52), (side * long, 0.08, 0.0), rounding=0.12)
    soft, at = paint(rng), u(0.3, 0.6)
    for side in (-1.0, 1.0):
        size, lean = (0.22, 0.2, 0.09), turn(0, rng.full(-0.3))
        where = (side * at * long, 0.38, -0.18)
        shape.add(COLUMN, "cushion", soft, size, where, rounding=0.08, rotation=lean, present=rng.flag(0.6))
    foot = paint(rng, "brown black")
    for x in (-0.9, 0.9):
        shape.add(COLUMN, "", foot, (0.07, 0.1, 0.07), (x * long, -0.27, 0.38), corner=1.0)


def lamp(rng: RandomStreams, shape: Assembly) -> None:
    """A shade on a stem with a foot, straight or turned."""
    u = rng.uniform
    tall, wide = u(0.5, 0.9), u(0.4, 0.65)
    cloth = material(rng, {textures.PLAIN: 0.7, textures.STRIPES: 0.15, textures.DOTS: 0.15})
    at = (0.0, tall + 0.1, 0.0)
    shape.add(COLUMN, "shade", cloth, (0.75 * wide, 0.35, 0.75 * wide), at, corner=1.0, taper=-u(0.25, 0.5))
    turned, foot = rng.flag(0.5), plain(rng)
    vase = (0.5, u(0.7, 1.0), u(0.7, 1.0), 0.6, 0.35, 0.25)
    shape.add(LATHE, "body", foot, (0.38, tall, 0.38), profile=vase, present=turned)
    shape.add(COLUMN, "body", foot, (0.06, tall, 0.06), corner=1.0, present=~turned)
    at = (0.0, -tall, 0.0)
    shape.add(COLUMN, "stand", foot, (0.38, 0.06, 0.38), at, corner=1.0, rounding=0.03, present=~turned)
    shape.add(COLUMN, "", paint(rng, "yellow grey"), (0.02, 0.16, 0.02), (0.22, tall - 0.3, 0.2), corner=1.0)


def book(rng: RandomStreams, shape: Assembly) -> None:
    """Two covers, pages, a spine at the left; print on the front."""
    u = rng.uniform
    wide, tall, thick = u(0.6, 0.75), u(0.8, 0.95), u(0.1, 0.25)
    print_ = {textures.LABEL: 0.3, textures.LOGO: 0.4, textures.PLAIN: 0.2, textures.BAND: 0.1}
    cover = material(rng, print_)
    same = paint(rng, base=cover.colors[:, 0])
    shape.add(COLUMN, "page", paint(rng, "white"), (0.94 * wide, 0.95 * tall, 0.9 * thick))
    shape.add(COLUMN, "body", cover, (wide, tall, 0.03), (0.0, 0.0, thick), rounding=0.01)
    shape.add(COLUMN, "", same, (wide, tall, 0.03), (0.0, 0.0, -thick), rounding=0.01)
    spine = paint(rng, base=torch.where(rng.flag(0.6)[:, None], same.colors[:, 0], color(rng)))
    shape.add(COLUMN, "spine", spine, (0.05, tall, thick + 0.03), (-wide, 0.0, 0.0), rounding=0.03)
    ribbon, at = paint(rng, "red blue yellow"), (0.3 * wide, -tall, 0.0)
    shape.add(COLUMN, "ribbon", ribbon, (0.05, 0.18, 0.02), at, present=rng.flag(0.3))


def phone(rng: RandomStreams, shape: Assembly) -> None:
    """A flat slab: screen and button on the front, camera on the back."""
    u = rng.uniform
    wide, thick = u(0.42, 0.55), u(0.06, 0.12)
    body = plain(rng)
    shape.add(COLUMN, "body", body, (wide, 1.0, thick), rounding=0.05)
    pictures = {textures.PLAIN: 0.4, textures.GRADIENT: 0.3, textures.DOTS: 0.15, textures.LOGO: 0.15}
    size, at = (0.88 * wide, u(0.75, 0.88), 0.02), (0.0, 0.04, thick)
    shape.add(COLUMN, "screen", material(rng, pictures, names="black blue white turquoise"), size, at)
    dot = turn(0, rng.full(QUARTER))
    shape.add(COLUMN, "button", paint(rng), (0.08, 0.03, 0.08), (0.0, -0.92, thick), corner=1.0, rotation=dot)
    lens, black = rng.choice([1.0, 1.0, 1.0]) + 1, paint(rng, "black grey")
    for place in range(3):
        at = (0.5 * wide, 0.75 - 0.26 * place, -thick)
        shape.add(COLUMN, "lens", black, (0.1, 0.04, 0.1), at, corner=1.0, rotation=dot, present=lens > place)


def television(rng: RandomStreams, shape: Assembly) -> None:
    """A frame with a screen; flat on a stand, or a deep old one with knobs and antennas."""
    u = rng.uniform
    old, wide, tall = rng.flag(0.5), u(0.75, 1.0), u(0.5, 0.65)
    deep = torch.where(old, u(0.35, 0.5), u(0.06, 0.1))
    case = plain(rng, names="black grey brown red orange turquoise white")
    shape.add(COLUMN, "body", case, (wide, tall, deep), rounding=0.05)
    pictures = {textures.PLAIN: 0.5, textures.GRADIENT: 0.3, textures.STRIPES: 0.2}
    size = (torch.where(old, 0.7, 0.92) * wide, 0.82 * tall, 0.02)
    at = (torch.where(old, -0.18, 0.0) * wide, 0.0, deep)
    shape.add(COLUMN, "screen", material(rng, pictures, names="black blue grey turquoise"), size, at, rounding=0.01)
    knob, dot = paint(rng), turn(0, rng.full(QUARTER))
    for y in (-0.1, 0.2):
        shape.add(
            COLUMN, "knob", knob, (0.08, 0.05, 0.08), (0.76 * wide, y, deep), corner=1.0, rotation=dot, present=old
        )
    for side in (-1.0, 1.0):
        at, lean = (side * 0.2, tall + 0.25, 0.0), turn(2, rng.full(-side * 0.6))
        shape.add(COLUMN, "antenna", paint(rng, "grey"), (0.03, 0.32, 0.03), at, rotation=lean, present=old, corner=1.0)
    foot = paint(rng, "black grey")
    shape.add(COLUMN, "", foot, (0.08, 0.2, 0.05), (0.0, -tall - 0.1, 0.0), present=~old)
    shape.add(COLUMN, "stand", foot, (0.4, 0.04, 0.22), (0.0, -tall - 0.25, 0.0), rounding=0.02, present=~old)


def camera(rng: RandomStreams, shape: Assembly) -> None:
    """A box with a lens, a flash, a button and a strip."""
    u = rng.uniform
    wide, tall, deep = u(0.75, 0.95), u(0.45, 0.6), u(0.25, 0.35)
    case = paint(rng)
    shape.add(COLUMN, "body", case, (wide, tall, deep), rounding=0.08)
    strip = paint(rng, "black white grey brown")
    shape.add(COLUMN, "band", strip, (wide + 0.01, 0.5 * tall, deep + 0.01), rounding=0.06, present=rng.flag(0.6))
    dot, size, out = turn(0, rng.full(QUARTER)), u(0.3, 0.4), u(0.12, 0.3)
    tube = paint(rng, "black grey white")
    shape.add(COLUMN, "", tube, (size, out, size), (0.0, -0.03, deep + out), corner=1.0, rounding=0.03, rotation=dot)
    glass = paint(rng, "blue black turquoise purple")
    shape.add(ELLIPSOID, "lens", glass, (0.75 * size, 0.75 * size, 0.08), (0.0, -0.03, deep + 2 * out))
    shape.add(COLUMN, "", case, (0.28, 0.12, 0.2), (0.0, tall + 0.05, 0.0), rounding=0.05, taper=-0.2)
    bulb = paint(rng, "white yellow")
    shape.add(COLUMN, "flash", bulb, (0.14, 0.08, 0.04), (0.65 * wide, 0.65 * tall, deep), rounding=0.02)
    at = (-0.6 * wide, tall, 0.0)
    shape.add(COLUMN, "button", paint(rng), (0.12, 0.08, 0.12), at, corner=1.0, rounding=0.03)


def clock(rng: RandomStreams, shape: Assembly) -> None:
    """A round or many-sided case with a face and two hands; feet and bells on some."""
    u = rng.uniform
    round_, deep = rng.flag(0.7), u(0.12, 0.3)
    case, dial = plain(rng), paint(rng, "white white yellow black")
    kind = torch.where(round_, COLUMN, STAR)
    dot = turn(0, rng.full(QUARTER))
    upright = torch.eye(3, device=rng.device).expand(len(rng), 3, 3)
    rotation = torch.where(round_[:, None, None], dot, upright)
    size = (0.9, torch.where(round_, deep, 0.9), torch.where(round_, 0.9, deep))
    shape.add(kind, "body", case, size, corner=1.0, profile=star(8.0), rounding=0.05, rotation=rotation)
    shape.add(COLUMN, "face", dial, (0.75, 0.03, 0.75), (0.0, 0.0, deep), corner=1.0, rotation=dot)
    black = paint(rng, "black red blue")
    for long, role in ((0.3, "hand"), (0.22, "hand")):
        angle = u(0.0, 6.28)
        at = (-long * angle.sin(), long * angle.cos(), deep + 0.04)
        shape.add(COLUMN, role, black, (0.05, long, 0.02), at, rotation=turn(2, angle))
    alarm, metal = rng.flag(0.4), paint(rng)
    for side in (-1.0, 1.0):
        shape.add(ELLIPSOID, "ball", metal, (0.26, 0.24, 0.2), (side * 0.55, 0.85, 0.0), present=alarm)
        at, lean = (side * 0.55, -0.88, 0.0), turn(2, rng.full(side * 0.5))
        shape.add(COLUMN, "foot", metal, (0.08, 0.2, 0.08), at, rotation=lean, present=alarm, rounding=0.03)
