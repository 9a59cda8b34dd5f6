"""Procedural patterns, in a part's own coordinates scaled to [-1, 1]. `_triton.py` holds the same formulas."""

import torch
from jaxtyping import Float
from torch import Tensor

PLAIN, STRIPES, CHECKS, GRADIENT, BLOTCHES, LABEL, DOTS, BAND, SPLIT, FACE = range(10)


def _shares(
    pattern: Tensor, q: Float[Tensor, "V M 3"], along: Float[Tensor, "V M"], numbers: Float[Tensor, "V 4"]
) -> tuple[Float[Tensor, "V M"], Float[Tensor, "V M"]]:
    """How much of the second and of the third colour shows; `along` is the coordinate along the material's axis."""
    x, y, z = q.unbind(-1)
    n0, n1, n2, n3 = (number[:, None] for number in numbers.unbind(-1))
    none = torch.zeros_like(x)
    stripes = ((n0 * along + n1).sin() * n2 + 0.5 + n3).clamp(0, 1)
    checks = ((n0 * x + n1).sin() * (n0 * y + n1).sin() * (n0 * z + n1).sin() * n2 * 4 + 0.5).clamp(0, 1)
    gradient = (0.5 + 0.5 * n0 * along + n1).clamp(0, 1)
    warped = (n0 * along + n1 + 2 * (0.7 * n0 * y + n3).sin()).sin()
    blotches = (warped * (1.3 * n0 * z + 2 * n1 + 1.5 * (0.9 * n0 * x + n3).sin()).sin() * n2 + 0.5).clamp(0, 1)
    label = ((x.abs() < n0) & ((y - n1).abs() < n2) & (z > 0)).float()
    rows = n3 * (y - n1)
    text = label * ((rows.sin() > 0.25) & ((1.7 * n3 * x + 3 * (rows / 6.2832).floor()).sin() > -0.35)).float()
    lattice = n0[..., None] * q + n1[..., None]
    cell = lattice - lattice.floor() - 0.5
    dots = ((cell * cell).sum(-1) < n2 * n2).float()
    band = ((along - n0).abs() < n1).float()
    line = ((along - n0).abs() < n2).float()
    split = (along > n0).float()
    eyes = ((((x.abs() - n0) ** 2 + (y - n1) ** 2) < n2 * n2) & (z > 0)).float()
    belly = ((((x / 0.6) ** 2 + ((y - n3) / 0.5) ** 2) < 1) & (z > 0)).float()
    second, third = none, none
    table = {
        STRIPES: (stripes, none),
        CHECKS: (checks, none),
        GRADIENT: (gradient, none),
        BLOTCHES: (blotches, none),
        LABEL: (label, text),
        DOTS: (dots, none),
        BAND: (band, line),
        SPLIT: (split, none),
        FACE: (belly, eyes),
    }
    for kind, (of_second, of_third) in table.items():
        here = (pattern == kind)[:, None]
        second, third = torch.where(here, of_second, second), torch.where(here, of_third, third)
    return second, third


def albedo(
    pattern: Tensor,
    q: Float[Tensor, "V M 3"],
    axis: Float[Tensor, "V 3"],
    numbers: Float[Tensor, "V 4"],
    colors: Float[Tensor, "V 3 3"],
) -> Float[Tensor, "V M 3"]:
    """The colour of a part at points `q`."""
    along = torch.einsum("vmi,vi->vm", q, axis)
    second, third = (share[..., None] for share in _shares(pattern, q, along, numbers))
    mixed = colors[:, None, 0] + second * (colors[:, None, 1] - colors[:, None, 0])
    return mixed + third * (colors[:, None, 2] - mixed)
