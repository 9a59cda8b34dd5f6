"""Colours, patterns and lights of the procedural world."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from . import textures
from .objects import Material
from .streams import RandomStreams, constant
from .words import COLORS

#           hue (degrees)  saturation    value
CLEAR = {
    "red": ((350, 366), (0.64, 0.94), (0.50, 0.98)),
    "orange": ((22, 36), (0.60, 0.94), (0.85, 1.00)),
    "brown": ((18, 36), (0.40, 0.75), (0.26, 0.60)),
    "yellow": ((46, 60), (0.45, 0.92), (0.85, 1.00)),
    "green": ((80, 150), (0.35, 0.88), (0.35, 0.90)),
    "turquoise": ((168, 188), (0.35, 0.88), (0.55, 0.95)),
    "blue": ((205, 245), (0.40, 0.90), (0.45, 1.00)),
    "purple": ((262, 285), (0.30, 0.80), (0.40, 0.90)),
    "pink": ((318, 340), (0.22, 0.60), (0.88, 1.00)),
    "white": ((0, 360), (0.00, 0.06), (0.88, 1.00)),
    "grey": ((200, 250), (0.00, 0.09), (0.35, 0.70)),
    "black": ((0, 360), (0.00, 0.40), (0.05, 0.15)),
}
"""The clear inside of each named colour; `words.color_names` names it so. Guidance saturates further."""
ANYWHERE = (
    ((0, 360), (0.55, 0.95), (0.55, 1.00)),  # saturated
    ((0, 360), (0.20, 0.45), (0.80, 1.00)),  # pastel
    ((0, 360), (0.20, 0.80), (0.08, 0.34)),  # dark
    ((15, 40), (0.30, 0.75), (0.35, 0.98)),  # wood and skin
)
CLEAR_SHARE = 0.82


def color(rng: RandomStreams, names: str = "") -> Float[Tensor, "N 3"]:
    """An RGB colour: mostly clear and named, all names alike (or only those given, in 85 %); the rest is anything."""
    ranges = constant((*CLEAR.values(), *ANYWHERE), rng.device)
    weights = [CLEAR_SHARE / len(CLEAR)] * len(CLEAR) + [(1 - CLEAR_SHARE) / len(ANYWHERE)] * len(ANYWHERE)
    if names:
        wanted = names.split()
        weights = [0.15 * weight for weight in weights]
        for name in wanted:
            weights[COLORS.index(name)] += 0.85 / len(wanted)
    chosen = ranges[rng.choice(weights)]
    hue, saturation, value = (chosen[..., 0] + (chosen[..., 1] - chosen[..., 0]) * rng.uniform(0, 1, 3)).unbind(-1)
    corners = constant((5.0, 3.0, 1.0), rng.device)
    sector = (corners + hue[:, None] / 60) % 6
    wave = torch.minimum(sector, 4 - sector).clamp(0.0, 1.0)
    return value[:, None] * (1 - saturation[:, None] * wave)


def _apart(first: Float[Tensor, "N 3"], second: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """The second colour, or nearly black or white where it is close to the first."""
    close = (first - second).abs().amax(-1, keepdim=True) < 0.3
    return torch.where(
        close, torch.where(first.mean(-1, keepdim=True) > 0.5, 0.12 * second, 0.9 + 0.1 * second), second
    )


PLAIN_WEIGHTS = {textures.PLAIN: 0.84, textures.GRADIENT: 0.1, textures.BLOTCHES: 0.03, textures.SPLIT: 0.03}
LABELLED = {
    textures.LABEL: 0.2,
    textures.WRAP: 0.16,
    textures.LOGO: 0.14,
    textures.BAND: 0.1,
    textures.PLAIN: 0.2,
    textures.BLOTCHES: 0.06,
    textures.SPLIT: 0.07,
    textures.ZIGZAG: 0.03,
    textures.STRIPES: 0.04,
}
WOODEN = {textures.WOOD: 0.5, textures.PLAIN: 0.42, textures.GRADIENT: 0.08}
PATTERN_WEIGHTS = {
    textures.PLAIN: 0.36,
    textures.NOISE: 0.06,
    textures.SPECKLE: 0.03,
    textures.STRIPES: 0.08,
    textures.CHECKS: 0.05,
    textures.GRADIENT: 0.07,
    textures.BLOTCHES: 0.05,
    textures.LABEL: 0.03,
    textures.DOTS: 0.08,
    textures.BAND: 0.05,
    textures.SPLIT: 0.05,
    textures.ZIGZAG: 0.05,
    textures.WOOD: 0.03,
    textures.PATCHES: 0.03,
}


def material(
    rng: RandomStreams,
    weights: dict[int, float] | None = None,
    base: Float[Tensor, "N 3"] | None = None,
    names: str = "",
) -> Material:
    """A material, its pattern sampled by `weights` (pattern to share), its first colour `base` or one of `names`."""
    weights = PATTERN_WEIGHTS if weights is None else weights
    kinds = constant(tuple(weights), rng.device, torch.long)
    pattern = kinds[rng.choice(list(weights.values()))]
    wooden = (pattern == textures.WOOD)[:, None]
    first = color(rng, names) if base is None else base
    if textures.WOOD in weights and base is None:
        first = torch.where(wooden & rng.flag(0.8)[:, None], color(rng, "brown"), first)
    second = _apart(first, color(rng))
    alike = wooden | (pattern == textures.NOISE)[:, None] & rng.flag(0.7)[:, None]
    second = torch.where(alike, 0.62 * first, second)
    third = _apart(second, color(rng, "black white blue red"))
    upright = constant((0.0, 1.0, 0.0), rng.device).expand(len(rng), 3)
    # No half and no end of a gradient lies behind: a back goes on as the front does.
    axis = rng.direction()
    sided = ((pattern == textures.SPLIT) | (pattern == textures.GRADIENT))[:, None]
    axis = torch.where(sided, axis * constant((1.0, 1.0, 0.0), rng.device), axis)
    axis = torch.where(rng.flag(0.6)[:, None], upright, axis)
    return Material(
        colors=torch.stack([first, second, third], dim=1), pattern=pattern, axis=axis, numbers=_numbers(rng, pattern)
    )


def plain(rng: RandomStreams, base: Float[Tensor, "N 3"] | None = None, names: str = "") -> Material:
    """A material that is mostly of one colour."""
    return material(rng, PLAIN_WEIGHTS, base, names)


def paint(rng: RandomStreams, names: str = "", base: Float[Tensor, "N 3"] | None = None) -> Material:
    """A material of one colour."""
    first = color(rng, names) if base is None else base
    zero = constant((0.0,) * 4, rng.device).expand(len(rng), 4)
    return Material(
        colors=first[:, None].expand(-1, 3, -1),
        pattern=constant((textures.PLAIN,), rng.device, torch.long).expand(len(rng)),
        axis=zero[:, :3],
        numbers=zero,
    )


def marked(
    rng: RandomStreams, base: Float[Tensor, "N 3"], belly: Float[Tensor, "N 3"], *, eyes: bool, low: float = -0.45
) -> Material:
    """A face or a belly on the front: an ellipse of colour `belly` at height `low`, and dark eyes."""
    u = rng.uniform
    colors = torch.stack([base, belly, torch.full_like(base, 0.06)], dim=1)
    size = u(0.08, 0.16) if eyes else rng.full(0.0)
    numbers = torch.stack([u(0.28, 0.42), u(0.1, 0.35), size, rng.full(low)], dim=-1)
    pattern = torch.full((len(rng),), textures.FACE, device=rng.device)
    return Material(colors=colors, pattern=pattern, axis=torch.zeros_like(base), numbers=numbers)


# Ranges of the four numbers of each pattern; their meaning is in `textures`.
RANGES: dict[int, list[tuple[float, float]]] = {
    textures.PLAIN: [(0, 1), (0, 1), (0, 1), (0, 1)],
    textures.STRIPES: [(6, 16), (0, 6.28), (3, 8), (-0.3, 0.3)],
    textures.CHECKS: [(4, 9), (0, 6.28), (8, 9), (0, 1)],
    textures.GRADIENT: [(0.5, 1.5), (-0.3, 0.3), (0, 1), (0, 1)],
    textures.BLOTCHES: [(2, 7), (0, 6.28), (0.5, 5), (0, 6.28)],
    textures.LABEL: [(0.45, 0.95), (-0.3, 0.3), (0.3, 0.7), (18, 42)],
    textures.DOTS: [(1.4, 3.2), (0, 1), (0.24, 0.42), (0, 1)],
    textures.BAND: [(-0.5, 0.5), (0.08, 0.35), (0.02, 0.1), (0, 1)],
    textures.SPLIT: [(-0.4, 0.4), (0, 1), (0, 1), (0, 1)],
    textures.FACE: [(0.25, 0.45), (0.0, 0.35), (0.07, 0.16), (-0.6, -0.25)],
    textures.WOOD: [(12, 26), (0, 6.28), (0, 1), (0.5, 1.5)],
    textures.PATCHES: [(2, 4), (0, 6.28), (0.1, 0.5), (0, 6.28)],
    textures.ZIGZAG: [(6, 13), (1, 3.5), (0.4, 1.2), (-0.3, 0.3)],
    textures.LOGO: [(0.4, 0.85), (0.05, 0.4), (0.2, 0.45), (0, 4)],
    textures.NOISE: [(2, 6), (0, 40), (1.2, 3), (0, 1)],
    textures.SPECKLE: [(4, 9), (0, 40), (0.55, 0.68), (0, 1)],
    textures.BRICKS: [(4, 8), (0, 1), (0, 1), (0, 1)],
    textures.WRAP: [(0.5, 0.9), (-0.3, 0.2), (0.3, 0.7), (18, 42)],
}


def _numbers(rng: RandomStreams, pattern: Tensor) -> Float[Tensor, "N 4"]:
    ranges = constant(tuple(tuple(RANGES[kind]) for kind in sorted(RANGES)), rng.device)[pattern]
    return ranges[..., 0] + (ranges[..., 1] - ranges[..., 0]) * rng.uniform(0, 1, 4)


def tint(rng: RandomStreams) -> Float[Tensor, "N 4"]:
    """A colour towards which the underside goes, in a seventh of the objects."""
    amount = torch.where(rng.flag(0.14), rng.uniform(0.2, 0.5), torch.zeros(len(rng), device=rng.device))
    return torch.cat([color(rng), amount[:, None]], dim=-1)


def light(rng: RandomStreams) -> Float[Tensor, "N 12"]:
    """Light at the camera, `0.6 + 0.4 |n.v|`, for 40 %; of the rest, most have a soft light from above, some gloss.

    Half of that rest have shadows, occlusion, a second light, warmth and grain too, as on a photo.
    """
    usual, soft, photo = rng.flag(0.4), rng.flag(0.7), rng.flag(0.5)
    ambient = torch.where(usual, 0.6, torch.where(soft, rng.uniform(0.6, 0.85), rng.uniform(0.5, 0.9)))
    ambient = torch.where(photo & ~usual, rng.uniform(0.4, 0.7), ambient)
    share = torch.where(soft, rng.uniform(0.7, 1.0), rng.uniform(-0.4, 1.0).clamp(min=0))
    share = torch.where(usual, 0.0, share)
    specular = torch.where(rng.flag(0.5) & ~usual | rng.flag(0.08), rng.uniform(0.12, 0.45), 0.0)
    angle = rng.uniform(0, 2 * math.pi)
    height = torch.where(soft, rng.uniform(0.7, 0.97), rng.uniform(0.3, 0.95))
    flat = (1 - height * height).sqrt()
    fixed = torch.stack([ambient, share, flat * angle.sin(), height, flat * angle.cos(), specular], dim=-1)
    low, high = constant(PHOTO, rng.device).T
    shown = (photo & ~usual)[:, None] & (rng.uniform(0, 1, 6) < 0.75)
    return torch.cat([fixed, shown * (low + (high - low) * rng.uniform(0, 1, 6))], dim=-1)


PHOTO = ((0.4, 1.0), (0.3, 0.9), (0.05, 0.3), (-0.12, 0.12), (0.1, 0.4), (0.04, 0.2))
"""Ranges of occlusion, shadow, light from above, warmth, second light and grain."""
