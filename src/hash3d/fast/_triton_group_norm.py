# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Group normalisation with SiLU on CUDA, channels last: the launches of its kernels. `group_norm` is the definition."""

import torch
import triton
from torch import Tensor

from ._triton_group_norm_kernels import (
    apply,
    apply_gradient,
    channel_sums,
    finish_backward,
    finish_forward,
    gradient_sums,
    whole_group,
)

WHOLE_GROUP = 32_768
"""Numbers of a group that one program can hold."""
BLOCK_CHANNELS = 64
BLOCK_ROWS = 32
PROGRAMS = 2112
"""Programs that share the rows of a picture, about: sixteen for each multiprocessor of an H100 or H200."""


class _Shape:
    """The numbers that the launches need of a channels-last [N, C, H, W] tensor."""

    def __init__(self, x: Tensor, num_groups: int) -> None:
        self.pictures, self.channels = x.shape[0], x.shape[1]
        self.rows, self.groups = x.shape[2] * x.shape[3], num_groups
        self.width = self.channels // num_groups
        self.padded_width = triton.next_power_of_2(self.width)
        self.channel_blocks = triton.cdiv(self.channels, BLOCK_CHANNELS)
        most = triton.cdiv(PROGRAMS, self.pictures * self.channel_blocks)
        blocks = triton.cdiv(self.rows, BLOCK_ROWS)
        self.rows_each = BLOCK_ROWS * triton.cdiv(blocks, min(blocks, most))
        self.parts = triton.cdiv(self.rows, self.rows_each)

    @property
    def pixels(self) -> tuple[int, int, int]:
        """The grid of the kernels that go over all numbers."""
        return triton.cdiv(self.rows, BLOCK_ROWS), self.pictures, self.channel_blocks

    @property
    def reduction(self) -> dict[str, int]:
        """How the partial sums are added up: as many parts at a time as make 4,096 numbers."""
        parts = min(triton.next_power_of_2(self.parts), max(1, 4096 // self.padded_width))
        return {"PARTS": parts, "WIDTH": self.padded_width}

    @property
    def held(self) -> int:
        """Numbers of a group, padded to powers of two."""
        return int(triton.next_power_of_2(self.rows)) * int(self.padded_width)

    def sums(self, like: Tensor) -> Tensor:
        """Room for the partial sums."""
        return torch.empty(self.pictures, self.parts, 2, self.channels, dtype=torch.float32, device=like.device)


Shifts = tuple[Tensor | None, Tensor | None]
"""What is added before: one number a channel [C], and one a channel of each picture [N, C]."""


def _shift_arguments(shifts: Shifts, like: Tensor) -> tuple[tuple[Tensor, Tensor], dict[str, bool]]:
    first, second = shifts
    tensors = (like if first is None else first, like if second is None else second.contiguous())
    return tensors, {"FIRST": first is not None, "SECOND": second is not None}


def normalise_small(
    x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool, shifts: Shifts
) -> Tensor | None:
    """The result for a picture whose groups fit a program; None for a larger one. Without a derivative."""
    shape = _Shape(x, num_groups)
    if shape.held > WHOLE_GROUP:
        return None
    y = torch.empty_like(x, memory_format=torch.channels_last)
    tensors, flags = _shift_arguments(shifts, x)
    whole_group[(num_groups, shape.pictures)](
        x, *tensors, y, weight, bias, shape.rows, shape.channels, shape.width, eps, **flags,
        SILU=silu, ROWS=triton.next_power_of_2(shape.rows), WIDTH=shape.padded_width,
        num_warps=4 if shape.held <= 4096 else 8 if shape.held <= 16_384 else 16,
    )  # fmt: skip
    return y


def normalise(
    x: Tensor, num_groups: int, weight: Tensor, bias: Tensor, eps: float, *, silu: bool, shifts: Shifts
) -> tuple[Tensor, Tensor]:
    """The result, and what the derivative needs: `lines` [N, 4, C]."""
    shape = _Shape(x, num_groups)
    y, sums = torch.empty_like(x, memory_format=torch.channels_last), shape.sums(x)
    lines = torch.empty(shape.pictures, 4, shape.channels, dtype=torch.float32, device=x.device)
    blocks = {"ROWS": BLOCK_ROWS, "CHANNELS": BLOCK_CHANNELS}
    sizes = (shape.rows, shape.channels)
    tensors, flags = _shift_arguments(shifts, x)
    grid = (shape.parts, shape.pictures, shape.channel_blocks)
    channel_sums[grid](x, *tensors, sums, *sizes, shape.rows_each, **flags, **blocks)
    finish_forward[(num_groups, shape.pictures)](
        sums, *tensors, weight, bias, lines, shape.parts, *sizes, shape.width, eps, **flags, **shape.reduction
    )
    apply[shape.pixels](x, y, lines, *sizes, SILU=silu, **blocks)
    return y, lines


def differentiate(
    x: Tensor,
    dy: Tensor,
    lines: Tensor,
    num_groups: int,
    weight: Tensor,
    *,
    silu: bool,
    fixed: bool,
    plus: Tensor | None = None,
) -> Tensor:
    """The gradient in x for the gradient `dy` in the result; with `fixed` that of a constant mean and std: a dz.

    Another gradient in x, that of a residual block's skip, is added where `plus` gives it.
    """
    shape = _Shape(x, num_groups)
    dx = torch.empty_like(x, memory_format=torch.channels_last)
    ends = gradient_ends(x, dy, lines, num_groups, weight, silu=silu, fixed=fixed)
    apply_gradient[shape.pixels](
        x, dy, x if plus is None else plus, dx, lines, ends, shape.rows, shape.channels,
        SILU=silu, PLUS=plus is not None, ROWS=BLOCK_ROWS, CHANNELS=BLOCK_CHANNELS,
    )  # fmt: skip
    return dx


def gradient_ends(
    x: Tensor, dy: Tensor, lines: Tensor, num_groups: int, weight: Tensor, *, silu: bool, fixed: bool
) -> Tensor:
    """c and d of dx = a dz + c + d x, [N, 2, C]; nought where the statistics are fixed."""
    shape = _Shape(x, num_groups)
    room = torch.zeros if fixed else torch.empty
    ends = room(shape.pictures, 2, shape.channels, dtype=torch.float32, device=x.device)
    if not fixed:
        grid, sums, sizes = (
            (shape.parts, shape.pictures, shape.channel_blocks),
            shape.sums(x),
            (shape.rows, shape.channels),
        )
        blocks = {"SILU": silu, "ROWS": BLOCK_ROWS, "CHANNELS": BLOCK_CHANNELS}
        gradient_sums[grid](x, dy, lines, sums, *sizes, shape.rows_each, **blocks)
        finish_backward[(num_groups, shape.pictures)](
            sums, weight, lines, ends, shape.parts, *sizes, shape.width, **shape.reduction
        )
    return ends
