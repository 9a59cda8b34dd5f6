"""Procedural patterns, in a part's own coordinates scaled to [-1, 1]. `_triton_textures.py` holds the same formulas."""

import torch
from jaxtyping import Float
from torch import Tensor

PLAIN, STRIPES, CHECKS, GRADIENT, BLOTCHES, LABEL, DOTS, BAND, SPLIT, FACE, WOOD, PATCHES, ZIGZAG, LOGO = range(14)
NOISE, SPECKLE, BRICKS, WRAP = range(14, 18)


def noise(x: Tensor, y: Tensor, z: Tensor) -> Tensor:
    """Value noise in [0, 1]: hashes of the corners of unit cells, blended smoothly. Integers wrap as in 32 bits."""
    cells = [each.floor() for each in (x, y, z)]
    u, v, w = ((each - cell) ** 2 * (3 - 2 * (each - cell)) for each, cell in zip((x, y, z), cells, strict=True))
    i, j, k = (cell.long() for cell in cells)
    total = torch.zeros_like(x)
    for corner in range(8):
        a, b, c = corner & 1, corner >> 1 & 1, corner >> 2
        bits = ((i + a) * 73856093) ^ ((j + b) * 19349663) ^ ((k + c) * 83492791)
        bits = ((bits ^ (bits >> 7)) * 9605) & 0xFFFF
        weight = (u if a else 1 - u) * (v if b else 1 - v) * (w if c else 1 - w)
        total = total + weight * bits.float() / 65535
    return total


def _words(x: Tensor, line: Tensor, width: Tensor) -> Tensor:
    """Where line number `line` of a text has ink: words of different lengths, lines of different lengths."""
    end = 0.62 + 0.28 * (2.4 * line + 1).sin()
    u = x / width
    word = (17 * u + 5 * line).sin() + (29 * u + 2 * line).sin() > -0.75
    return word & (u > -0.9) & (u < end)


def _shares(
    pattern: Tensor, q: Float[Tensor, "V M 3"], along: Float[Tensor, "V M"], numbers: Float[Tensor, "V 4"]
) -> tuple[Float[Tensor, "V M"], Float[Tensor, "V M"]]:
    """How much of the second and of the third colour shows; `along` is the coordinate along the material's axis."""
    given = q, along, [number[:, None] for number in numbers.unbind(-1)]
    second = third = none = torch.zeros_like(along)
    table = {kind: (share, none) for kind, share in _repeat(*given).items()} | _place(*given)
    for kind, (of_second, of_third) in table.items():
        here = (pattern == kind)[:, None]
        second, third = torch.where(here, of_second, second), torch.where(here, of_third, third)
    return second, third


def _repeat(q: Tensor, along: Tensor, numbers: list[Tensor]) -> dict[int, Tensor]:
    """How much of the second colour shows in the patterns that go on for ever."""
    x, y, z = q.unbind(-1)
    n0, n1, n2, n3 = numbers
    stripes = ((n0 * along + n1).sin() * n2 + 0.5 + n3).clamp(0, 1)
    checks = ((n0 * x + n1).sin() * (n0 * y + n1).sin() * (n0 * z + n1).sin() * n2 * 4 + 0.5).clamp(0, 1)
    gradient = (0.5 + 0.5 * n0 * along + n1).clamp(0, 1)
    warped = (n0 * along + n1 + 2 * (0.7 * n0 * y + n3).sin()).sin()
    blotches = (warped * (1.3 * n0 * z + 2 * n1 + 1.5 * (0.9 * n0 * x + n3).sin()).sin() * n2 + 0.5).clamp(0, 1)
    lattice = n0[..., None] * q + n1[..., None]
    cell = lattice - lattice.floor() - 0.5
    dots = ((cell * cell).sum(-1) < n2 * n2).float()
    heart = ((x - 0.45) ** 2 + (z * n2 + y * (1 - n2) - 0.35) ** 2 + 1e-12).sqrt()
    wood = (0.4 + 0.6 * (n0 * heart + n3 * ((2.1 * y + n1).sin() + (1.7 * z + 2.3 * x + n1).sin())).sin()).clamp(0, 1)
    patch = (n0 * x + n1 + 1.3 * (1.3 * n0 * y + n3).sin()).sin() * (
        n0 * y + n3 + 1.3 * (1.1 * n0 * z + n1).sin()
    ).sin()
    patches = (patch + 0.5 * (1.7 * n0 * z + n1 + n3).sin() > n2).float()
    tooth = n1 * (x + z)
    zigzag = ((n0 * (y + n2 * (tooth - tooth.floor() - 0.5).abs())).sin() > n3).float()
    rough = noise(*lattice.unbind(-1))
    mottled = ((rough + 0.5 * noise(*(2 * lattice).unbind(-1))) / 1.5 - 0.5) * n2 + 0.5
    course = n0 * y
    brick = 0.5 * n0 * (x + z) + 0.5 * course.floor()
    mortar = (course - course.floor() < 0.14) | (brick - brick.floor() < 0.08)
    return {
        STRIPES: stripes, CHECKS: checks, GRADIENT: gradient, BLOTCHES: blotches, DOTS: dots, WOOD: wood,
        PATCHES: patches, ZIGZAG: zigzag, NOISE: mottled.clamp(0, 1), SPECKLE: (rough > n2).float(),
        BRICKS: mortar.float(),
    }  # fmt: skip


def _place(q: Tensor, along: Tensor, numbers: list[Tensor]) -> dict[int, tuple[Tensor, Tensor]]:
    """How much of the second and of the third colour shows in the patterns that lie somewhere."""
    x, y, z = q.unbind(-1)
    n0, n1, n2, n3 = numbers
    label = ((x.abs() < n0) & ((y - n1).abs() < n2) & (z > 0)).float()
    rows = n3 * (n1 - y) / 6.2832
    line = rows.floor()
    inked = rows - line > 0.45
    text = label * (inked & _words(x, line, n0)).float()
    band = ((along - n0).abs() < n1).float()
    middle = ((along - n0).abs() < n2).float()
    eyes = ((((x.abs() - n0) ** 2 + (y - n1) ** 2) < n2 * n2) & (z > 0)).float()
    belly = ((((x / 0.6) ** 2 + ((y - n3) / 0.5) ** 2) < 1) & (z > 0)).float()
    wrap = ((y - n1).abs() < n2).float()
    round_ = _words(torch.where(x.abs() > z.abs(), z, x), line, n0) & inked
    return {
        LABEL: (label, text),
        BAND: (band, middle),
        SPLIT: ((along > n0).float(), torch.zeros_like(x)),
        FACE: (belly, eyes),
        LOGO: _logo(x, y, z, n0, n1, n2, n3),
        WRAP: (wrap, wrap * round_.float()),
    }


def _logo(x: Tensor, y: Tensor, z: Tensor, n0: Tensor, n1: Tensor, n2: Tensor, n3: Tensor) -> tuple[Tensor, Tensor]:
    """A sign of size n2 at height n1 (disc, ring, square or cross by n3), and below it lines of text of width n0."""
    u, v = x.abs() / n2, (y - n1).abs() / n2
    square = u * u + v * v
    disc, far = square < 1, torch.maximum(u, v)
    ring, cross = disc & (square > 0.36), (far < 1) & (torch.minimum(u, v) < 0.33)
    sign = torch.where(n3 < 1, disc, torch.where(n3 < 2, ring, torch.where(n3 < 3, far < 0.85, cross)))
    rows = (n1 - 1.2 * n2 - y) / 0.16
    line = rows.floor()
    text = (rows > 0) & (rows < 3) & (rows - line > 0.4) & _words(x, line, n0)
    return (sign & (z > 0)).float(), (text & (z > 0)).float()


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
