# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Find the face that each pixel sees by one Triton kernel on CUDA: a program goes through the bounding box of one face.

A pixel keeps the least 64-bit number of its faces, the depth's bits before the face's row: the nearest face, the lowest
row of equal ones. In float32 without fused multiply-adds, as `_torch_raster`. The host never waits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._torch_raster import Projected

BLOCK = 32
"""Pixels that a program tries at once."""
NOTHING = 2**63 - 1


@triton.jit
def _corner(screen, depths, faces, face, number: tl.constexpr):
    """Column, row and depth of one corner of a face."""
    vertex = tl.load(faces + face * 3 + number)
    return tl.load(screen + vertex * 2), tl.load(screen + vertex * 2 + 1), tl.load(depths + vertex)


@triton.jit
def _span(a, b, c, limit):
    """The first pixel along one axis whose centre a face may cover, and the number of such pixels."""
    least = tl.minimum(tl.minimum(a, b), c)
    greatest = tl.maximum(tl.maximum(a, b), c)
    first = tl.minimum(tl.maximum(tl.ceil(least - 0.5), 0.0), limit * 1.0).to(tl.int32)
    last = tl.minimum(tl.maximum(tl.floor(greatest + 0.5), 0.0), limit * 1.0).to(tl.int32)
    return first, tl.maximum(last - first, 0)


@triton.jit
def _raster_kernel(screen, depths, faces, keys, width, height, BLOCK: tl.constexpr):
    face = tl.program_id(0)
    ax, ay, az = _corner(screen, depths, faces, face, 0)
    bx, by, bz = _corner(screen, depths, faces, face, 1)
    cx, cy, cz = _corner(screen, depths, faces, face, 2)
    first_column, across = _span(ax, bx, cx, width)
    first_row, down = _span(ay, by, cy, height)
    for begin in range(0, across * down, BLOCK):
        place = begin + tl.arange(0, BLOCK)
        column = first_column + place % across
        row = first_row + place // across
        x = column.to(tl.float32) + 0.5
        y = row.to(tl.float32) + 0.5
        # Edge functions about the pixel, as `edge_functions` has them: in the order of the corner left out.
        a = (bx - x) * (cy - y) - (cx - x) * (by - y)
        b = (cx - x) * (ay - y) - (ax - x) * (cy - y)
        c = (ax - x) * (by - y) - (bx - x) * (ay - y)
        area = a + b + c
        inside = ((a >= 0.0) & (b >= 0.0) & (c >= 0.0)) | ((a <= 0.0) & (b <= 0.0) & (c <= 0.0))
        covered = (place < across * down) & inside & (area != 0.0)
        safe = tl.where(area == 0.0, 1.0, area)
        inverse = tl.math.div_rn(tl.math.div_rn(a, safe), az)
        inverse += tl.math.div_rn(tl.math.div_rn(b, safe), bz)
        inverse += tl.math.div_rn(tl.math.div_rn(c, safe), cz)
        depth = tl.math.div_rn(1.0 + tl.zeros([BLOCK], tl.float32), inverse)
        key = (depth.to(tl.int32, bitcast=True).to(tl.int64) << 32) | face.to(tl.int64)
        tl.atomic_min(keys + row * width + column, key, mask=covered, sem="relaxed")


def visible_faces(projected: Projected, size: tuple[int, int]) -> Tensor:
    """Compute `visible_faces`, "H W"."""
    width, height = size
    keys = torch.full((height, width), NOTHING, dtype=torch.int64, device=projected.depths.device)
    if len(projected.faces):
        _raster_kernel[(len(projected.faces),)](
            projected.screen.contiguous(), projected.depths.contiguous(), projected.faces.contiguous(), keys, width,
            height, BLOCK=BLOCK, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip
    return (keys & 0xFFFFFFFF).masked_fill(keys == NOTHING, -1)
