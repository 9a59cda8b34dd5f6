"""Colours, patterns and lights of the procedural world."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.priors.world import textures
from hash3d.priors.world.draws import Draws
from hash3d.priors.world.objects import Material

#        hue          saturation    value         share
PALETTE = [
    ((0.00, 1.00), (0.65, 1.00), (0.55, 1.00), 0.36),  # saturated
    ((0.00, 1.00), (0.20, 0.45), (0.80, 1.00), 0.16),  # pastel
    ((0.00, 1.00), (0.20, 0.80), (0.06, 0.32), 0.11),  # dark
    ((0.00, 1.00), (0.00, 0.08), (0.82, 0.98), 0.11),  # nearly white
    ((0.50, 0.65), (0.00, 0.15), (0.25, 0.75), 0.09),  # metal
    ((0.04, 0.11), (0.30, 0.75), (0.35, 0.98), 0.17),  # wood and skin
]


def color(draws: Draws) -> Float[Tensor, "N 3"]:
    """An RGB colour out of the palette."""
    ranges = torch.tensor([row[:3] for row in PALETTE], device=draws.device)
    chosen = ranges[draws.choice([row[3] for row in PALETTE])]
    hue, saturation, value = (chosen[..., 0] + (chosen[..., 1] - chosen[..., 0]) * draws.uniform(0, 1, 3)).unbind(-1)
    corners = torch.tensor([5.0, 3.0, 1.0], device=draws.device)
    sector = (corners + hue[:, None] * 6) % 6
    wave = torch.minimum(sector, 4 - sector).clamp(0.0, 1.0)
    return value[:, None] * (1 - saturation[:, None] * wave)


PLAIN_WEIGHTS = {textures.PLAIN: 0.75, textures.GRADIENT: 0.15, textures.BLOTCHES: 0.05, textures.SPLIT: 0.05}
PATTERN_WEIGHTS = {
    textures.PLAIN: 0.42,
    textures.STRIPES: 0.09,
    textures.CHECKS: 0.04,
    textures.GRADIENT: 0.10,
    textures.BLOTCHES: 0.08,
    textures.LABEL: 0.07,
    textures.DOTS: 0.07,
    textures.BAND: 0.07,
    textures.SPLIT: 0.06,
}


def material(draws: Draws, weights: dict[int, float] | None = None, base: Tensor | None = None) -> Material:
    """A material with a pattern drawn by `weights` (pattern to share); `base` fixes the first colour."""
    weights = PATTERN_WEIGHTS if weights is None else weights
    kinds = torch.tensor(list(weights), device=draws.device)
    pattern = kinds[draws.choice(list(weights.values()))]
    colors = torch.stack([color(draws) if base is None else base, color(draws), color(draws)], dim=1)
    upright = torch.tensor([0.0, 1.0, 0.0], device=draws.device).expand(len(draws), 3)
    axis = torch.where(draws.flag(0.5)[:, None], upright, draws.direction())
    numbers = _numbers(draws, pattern)
    return Material(colors=colors, pattern=pattern, axis=axis, numbers=numbers)


def plain(draws: Draws, base: Tensor | None = None) -> Material:
    """A material that is mostly of one colour."""
    return material(draws, PLAIN_WEIGHTS, base)


# Ranges of the four numbers of each pattern; their meaning is in `textures`.
RANGES = {
    textures.PLAIN: [(0, 1), (0, 1), (0, 1), (0, 1)],
    textures.STRIPES: [(4, 16), (0, 6.28), (0.6, 8), (-0.3, 0.3)],
    textures.CHECKS: [(3, 9), (0, 6.28), (8, 9), (0, 1)],
    textures.GRADIENT: [(0.5, 1.5), (-0.3, 0.3), (0, 1), (0, 1)],
    textures.BLOTCHES: [(2, 7), (0, 6.28), (0.5, 5), (0, 6.28)],
    textures.LABEL: [(0.45, 0.95), (-0.3, 0.3), (0.3, 0.7), (12, 34)],
    textures.DOTS: [(1.2, 3.2), (0, 1), (0.22, 0.42), (0, 1)],
    textures.BAND: [(-0.5, 0.5), (0.08, 0.35), (0.02, 0.1), (0, 1)],
    textures.SPLIT: [(-0.5, 0.5), (0, 1), (0, 1), (0, 1)],
    textures.FACE: [(0.25, 0.45), (0.0, 0.35), (0.07, 0.16), (-0.6, -0.25)],
}


def _numbers(draws: Draws, pattern: Tensor) -> Float[Tensor, "N 4"]:
    ranges = torch.tensor([RANGES[kind] for kind in sorted(RANGES)], device=draws.device)[pattern]
    return ranges[..., 0] + (ranges[..., 1] - ranges[..., 0]) * draws.uniform(0, 1, 4)


def tint(draws: Draws) -> Float[Tensor, "N 4"]:
    """A colour towards which the underside goes, in a fifth of the objects."""
    amount = torch.where(draws.flag(0.2), draws.uniform(0.2, 0.6), torch.zeros(len(draws), device=draws.device))
    return torch.cat([color(draws), amount[:, None]], dim=-1)


def light(draws: Draws) -> Float[Tensor, "N 6"]:
    """Light at the camera, `0.6 + 0.4 |n.v|`, for 60 %; the rest has other shares, lights, highlights."""
    usual = draws.flag(0.6)
    ambient = torch.where(usual, torch.full_like(usual, 0.6, dtype=torch.float32), draws.uniform(0.5, 0.9))
    none = torch.zeros_like(ambient)
    share = torch.where(~usual & draws.flag(0.5), draws.uniform(0.4, 1.0), none)
    specular = torch.where(~usual & draws.flag(0.35), draws.uniform(0.05, 0.35), none)
    angle, height = draws.uniform(0, 2 * math.pi), draws.uniform(0.3, 0.95)
    flat = (1 - height * height).sqrt()
    return torch.stack([ambient, share, flat * angle.sin(), height, flat * angle.cos(), specular], dim=-1)
