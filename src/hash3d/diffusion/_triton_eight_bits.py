# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The gradient of convolutions in numbers of eight bits (e4m3) on CUDA. `eight_bits` is the definition.

A picture [N, C, H, W] lies in memory as rows of C channels, one a pixel, with a border of noughts one pixel wide around
each picture: N (H + 2) (W + 2) rows. A 3 x 3 convolution is then nine products of matrices, each with the rows shifted
by the same number, which the tensor memory accelerator loads and Hopper's tensor cores multiply at twice the rate of
half precision.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.tools.tensor_descriptor import TensorDescriptor

from ._triton_group_norm import BLOCK_CHANNELS, BLOCK_ROWS, gradient_ends
from ._triton_group_norm_kernels import gradient_in_x
from .eight_bits import DTYPE, LARGEST, scale_for

MOST = tl.constexpr(LARGEST)
TILE = 128
"""Pixels, channels of the result and channels summed at a time that one program multiplies."""
LARGEST_SLOPE = 2.0
"""Above that of SiLU, 1.1, with room for what means and variances add; a number beyond is cut to the largest."""


@dataclass(frozen=True, kw_only=True)
class RoundedPicture:
    """A picture of eight bits with its border."""

    rows: Tensor
    """[N (H + 2) (W + 2), C]."""
    scale: Tensor
    """[2]: by what the numbers were multiplied, and one over it."""
    shape: tuple[int, int, int, int]
    """N, C, H, W of the picture."""


class Adjoint(NamedTuple):
    """The gradient in what a convolution was given."""

    picture: Tensor
    """[N, C, H, W]."""
    bound: Tensor | None
    """[1]: at least as large as its absolutes."""


class AdjointWeights:
    """What the gradient of a 3 x 3 convolution of stride and border 1 multiplies: its weights [M, C, 3, 3] mirrored."""

    def __init__(self, weight: Tensor) -> None:
        self.channels = int(weight.shape[1])
        scale = scale_for(weight.abs().amax().float())
        mirrored = weight.flip(2, 3).permute(2, 3, 1, 0).reshape(-1, weight.shape[0])
        self.rows = (mirrored * scale).to(DTYPE).contiguous()
        self.inverse = 1.0 / float(scale)


@triton.jit
def _find_scale(largest, lines, scale, pictures, channels, slope, GAINS: tl.constexpr, SIZE: tl.constexpr):
    """The power of two that brings numbers up to `largest`, times the largest gain of the lines, into the range."""
    bound = tl.load(largest).to(tl.float32)
    if GAINS:
        most = tl.zeros((SIZE,), tl.float32)
        for picture in range(0, pictures):
            for begin in range(0, channels, SIZE):
                channel = begin + tl.arange(0, SIZE)
                gain = tl.load(lines + picture * 4 * channels + channel, mask=channel < channels, other=0.0)
                most = tl.maximum(most, tl.abs(gain))
        bound *= tl.max(most, axis=0) * slope
    factor = tl.exp2(tl.floor(tl.log2(MOST / tl.maximum(bound, 1e-30))))
    tl.store(scale, factor)
    tl.store(scale + 1, 1.0 / factor)


@triton.jit
def _inside(row, height, width):
    """Of rows of a picture with its border: which are pixels, and the number of each in the picture without."""
    down, across = row // (width + 2), row % (width + 2)
    inside = (down > 0) & (down <= height) & (across > 0) & (across <= width)
    return inside, (down - 1) * width + across - 1


@triton.jit
def _round(x, rows, scale, height, width, channels, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """A picture in eight bits, with its border."""
    picture, bordered = tl.program_id(1).to(tl.int64), (height + 2) * (width + 2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    inside, pixel = _inside(row, height, width)
    source = (picture * height * width + pixel)[:, None] * channels + channel[None, :]
    values = tl.load(x + source, mask=inside[:, None] & kept[None, :], other=0.0).to(tl.float32)
    result = tl.minimum(tl.maximum(values * tl.load(scale), -MOST), MOST)
    target = (picture * bordered + row)[:, None] * channels + channel[None, :]
    tl.store(rows + target, result.to(rows.dtype.element_ty), mask=(row < bordered)[:, None] & kept[None, :])


@triton.jit
def _round_gradient(
    x, dy, rows, scale, lines, ends, height, width, channels,
    SILU: tl.constexpr, ROWS: tl.constexpr, CHANNELS: tl.constexpr,
):  # fmt: skip
    """The gradient of a normalisation, a dz + c + d x, in eight bits, with its border."""
    picture, bordered = tl.program_id(1).to(tl.int64), (height + 2) * (width + 2)
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    channel = tl.program_id(2) * CHANNELS + tl.arange(0, CHANNELS)
    kept = channel < channels
    inside, pixel = _inside(row, height, width)
    source = (picture * height * width + pixel)[:, None] * channels + channel[None, :]
    values = tl.load(x + source, mask=inside[:, None] & kept[None, :], other=0.0).to(tl.float32)
    slope = tl.load(dy + source, mask=inside[:, None] & kept[None, :], other=0.0).to(tl.float32)
    of_lines, of_ends = lines + picture * 4 * channels + channel, ends + picture * 2 * channels + channel
    result = gradient_in_x(values, slope, of_lines, of_ends, channels, kept, SILU) * tl.load(scale)
    result = tl.where(inside[:, None], tl.minimum(tl.maximum(result, -MOST), MOST), 0.0)
    target = (picture * bordered + row)[:, None] * channels + channel[None, :]
    tl.store(rows + target, result.to(rows.dtype.element_ty), mask=(row < bordered)[:, None] & kept[None, :])


@triton.jit
def _shifted_products(
    rows, weights, scale, out, bound, inverse, count, height, width, summed, channels,
    BOUND: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    """A tile of the convolution: the sum of nine products of shifted rows with the weights of each shift."""
    tiles = channels // TILE
    first = (tl.program_id(0) // tiles) * TILE
    column = (tl.program_id(0) % tiles) * TILE
    total = tl.zeros((TILE, TILE), tl.float32)
    parts = summed // TILE
    for step in tl.range(0, 9 * parts, num_stages=3):
        shift, part = step // parts, (step % parts) * TILE
        row = first + (shift // 3 - 1) * (width + 2) + shift % 3 - 1
        picture, weight = rows.load([row, part]), weights.load([shift * channels + column, part])
        total = tl.dot(picture, weight.T, total)
    total *= tl.load(scale + 1) * inverse
    row = first + tl.arange(0, TILE)
    bordered = (height + 2) * (width + 2)
    inside, pixel = _inside(row % bordered, height, width)
    inside = inside & (row < count)
    if BOUND:
        # Over the border too, where some of the nine products are missing.
        tl.atomic_max(bound, tl.max(tl.max(tl.abs(total), axis=1), axis=0))
    target = (row // bordered).to(tl.int64) * height * width + pixel
    channel = column + tl.arange(0, TILE)
    tl.store(out + target[:, None] * channels + channel[None, :], total.to(out.dtype.element_ty), mask=inside[:, None])


def rounded(x: Tensor) -> RoundedPicture:
    """A picture [N, C, H, W] in eight bits."""
    x = x.contiguous(memory_format=torch.channels_last)
    picture = _room(x)
    _set_scale(picture, torch.linalg.vector_norm(x, ord=float("inf"), dtype=torch.float32), None)
    _round[_grid(picture)](
        x, picture.rows, picture.scale, *x.shape[2:], x.shape[1], ROWS=BLOCK_ROWS, CHANNELS=BLOCK_CHANNELS
    )
    return picture


def differentiate_rounded(
    x: Tensor, slope: Adjoint, lines: Tensor, num_groups: int, weight: Tensor, *, silu: bool, fixed: bool
) -> RoundedPicture:
    """What `_triton_group_norm.differentiate` gives for the gradient `slope` in the result, in eight bits."""
    dy, bound = slope
    assert bound is not None
    ends = gradient_ends(x, dy, lines, num_groups, weight, silu=silu, fixed=fixed)
    picture = _room(x)
    _set_scale(picture, bound, lines)
    _round_gradient[_grid(picture)](
        x, dy, picture.rows, picture.scale, lines, ends, *x.shape[2:], x.shape[1],
        SILU=silu, ROWS=BLOCK_ROWS, CHANNELS=BLOCK_CHANNELS,
    )  # fmt: skip
    return picture


def adjoint(picture: RoundedPicture, weights: AdjointWeights, dtype: torch.dtype, *, bound: bool = False) -> Adjoint:
    """The gradient in what a convolution was given for that in its result, with a bound of it if that is wanted."""
    pictures, summed, height, width = picture.shape
    out = torch.empty(
        (pictures, weights.channels, height, width),
        dtype=dtype, device=picture.rows.device, memory_format=torch.channels_last,
    )  # fmt: skip
    largest = torch.zeros(1, dtype=torch.float32, device=out.device) if bound else picture.scale
    count = len(picture.rows)
    _shifted_products[(triton.cdiv(count, TILE) * (weights.channels // TILE),)](
        TensorDescriptor.from_tensor(picture.rows, [TILE, TILE]),
        TensorDescriptor.from_tensor(weights.rows, [TILE, TILE]),
        picture.scale, out, largest, weights.inverse, count, height, width, summed, weights.channels,
        BOUND=bound, TILE=TILE, num_warps=4,
    )  # fmt: skip
    return Adjoint(out, largest if bound else None)


def _room(x: Tensor) -> RoundedPicture:
    """Room for a picture of this shape."""
    pictures, channels, height, width = x.shape
    rows = torch.empty(pictures * (height + 2) * (width + 2), channels, dtype=DTYPE, device=x.device)
    scale = torch.empty(2, dtype=torch.float32, device=x.device)
    return RoundedPicture(rows=rows, scale=scale, shape=(pictures, channels, height, width))


def _grid(picture: RoundedPicture) -> tuple[int, int, int]:
    """Programs that go over all numbers with the border."""
    pictures, channels, height, width = picture.shape
    return triton.cdiv((height + 2) * (width + 2), BLOCK_ROWS), pictures, triton.cdiv(channels, BLOCK_CHANNELS)


def _set_scale(picture: RoundedPicture, largest: Tensor, lines: Tensor | None) -> None:
    pictures, channels, _, _ = picture.shape
    _find_scale[(1,)](
        largest, largest if lines is None else lines, picture.scale, pictures, channels, LARGEST_SLOPE,
        GAINS=lines is not None, SIZE=512,
    )  # fmt: skip
