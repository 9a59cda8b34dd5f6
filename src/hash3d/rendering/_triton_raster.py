# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Find the face that each pixel sees, and where, by Triton kernels on CUDA: a program tries the pixels of one face.

A pixel keeps the least 64-bit number of its faces, the depth's bits before the face's row: the nearest face, the lowest
row of equal ones. In float32 without fused multiply-adds, as `_torch_raster`. The host never waits.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hash3d.kernels import require_last_derivative

from ._torch_raster import Projected

BLOCK, POINTS = 32, 128
"""Pixels that a program tries at once; points that one locates."""
NOTHING = 2**63 - 1


@triton.jit
def _corner(screen, depths, faces, face, number: tl.constexpr, first, mask):
    """Vertex (the first of the view is `first`), column, row and depth of one corner of faces."""
    vertex = tl.load(faces + face * 3 + number, mask=mask, other=0) + first
    x = tl.load(screen + vertex * 2, mask=mask, other=0.0)
    return (
        vertex,
        x,
        tl.load(screen + vertex * 2 + 1, mask=mask, other=0.0),
        tl.load(depths + vertex, mask=mask, other=1.0),
    )


@triton.jit
def _span(a, b, c, limit):
    """The first pixel along one axis whose centre a face may cover, and the number of such pixels."""
    least = tl.minimum(tl.minimum(a, b), c)
    greatest = tl.maximum(tl.maximum(a, b), c)
    first = tl.minimum(tl.maximum(tl.ceil(least - 0.5), 0.0), limit * 1.0).to(tl.int32)
    last = tl.minimum(tl.maximum(tl.floor(greatest + 0.5), 0.0), limit * 1.0).to(tl.int32)
    return first, tl.maximum(last - first, 0)


@triton.jit(do_not_specialize=["num_vertices"])
def _raster_kernel(screen, depths, faces, keys, num_vertices, width, height, BLOCK: tl.constexpr):
    face = tl.program_id(0)
    first = tl.program_id(1) * num_vertices
    keys += tl.program_id(1) * width * height
    _, ax, ay, az = _corner(screen, depths, faces, face, 0, first, True)
    _, bx, by, bz = _corner(screen, depths, faces, face, 1, first, True)
    _, cx, cy, cz = _corner(screen, depths, faces, face, 2, first, True)
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


@triton.jit(do_not_specialize=["num_points", "num_vertices"])
def _locate_kernel(
    screen, depths, faces, rows, pixels, weights, found, areas, grad_weights, grad_found, grad_screen, grad_depths,
    num_points, num_vertices, width, height, BACKWARD: tl.constexpr, POINTS: tl.constexpr,
):  # fmt: skip
    """`_torch_raster.locate`, or the gradients of places and depths from those of weights and `found` depths."""
    point = tl.program_id(0) * POINTS + tl.arange(0, POINTS)
    mask = point < num_points
    face = tl.load(rows + point, mask=mask, other=0)
    seen = mask & (face >= 0)
    pixel = tl.load(pixels + point, mask=mask, other=0)
    first = pixel // (width * height) * num_vertices
    x = (pixel % width).to(tl.float32) + 0.5
    y = (pixel // width % height).to(tl.float32) + 0.5
    i, ax, ay, az = _corner(screen, depths, faces, face, 0, first, seen)
    j, bx, by, bz = _corner(screen, depths, faces, face, 1, first, seen)
    k, cx, cy, cz = _corner(screen, depths, faces, face, 2, first, seen)
    ax -= x
    bx -= x
    cx -= x
    ay -= y
    by -= y
    cy -= y
    a = bx * cy - cx * by
    b = cx * ay - ax * cy
    c = ax * by - bx * ay
    area = a + b + c
    safe = tl.where(area == 0.0, 1.0, area)
    u = tl.math.div_rn(tl.math.div_rn(a, safe), az)
    v = tl.math.div_rn(tl.math.div_rn(b, safe), bz)
    w = tl.math.div_rn(tl.math.div_rn(c, safe), cz)
    total = tl.where(seen, u + v + w, 1.0)
    if BACKWARD:
        gu = tl.load(grad_weights + point * 3, mask=mask, other=0.0)
        gv = tl.load(grad_weights + point * 3 + 1, mask=mask, other=0.0)
        gw = tl.load(grad_weights + point * 3 + 2, mask=mask, other=0.0)
        # The weights are u, v and w over their sum, the depth is 1 over it.
        shared = (gu * u + gv * v + gw * w + tl.load(grad_found + point, mask=mask, other=0.0)) / total
        gu = (gu - shared) / total
        gv = (gv - shared) / total
        gw = (gw - shared) / total
        shared = tl.where(area == 0.0, 0.0, (gu * u + gv * v + gw * w) / safe)
        tl.atomic_add(grad_depths + i, -gu * u / az, mask=seen, sem="relaxed")
        tl.atomic_add(grad_depths + j, -gv * v / bz, mask=seen, sem="relaxed")
        tl.atomic_add(grad_depths + k, -gw * w / cz, mask=seen, sem="relaxed")
        ga = gu / (safe * az) - shared
        gb = gv / (safe * bz) - shared
        gc = gw / (safe * cz) - shared
        tl.atomic_add(grad_screen + i * 2, gc * by - gb * cy, mask=seen, sem="relaxed")
        tl.atomic_add(grad_screen + j * 2, ga * cy - gc * ay, mask=seen, sem="relaxed")
        tl.atomic_add(grad_screen + k * 2, gb * ay - ga * by, mask=seen, sem="relaxed")
        tl.atomic_add(grad_screen + i * 2 + 1, gb * cx - gc * bx, mask=seen, sem="relaxed")
        tl.atomic_add(grad_screen + j * 2 + 1, gc * ax - ga * cx, mask=seen, sem="relaxed")
        tl.atomic_add(grad_screen + k * 2 + 1, ga * bx - gb * ax, mask=seen, sem="relaxed")
    else:
        tl.store(weights + point * 3, tl.math.div_rn(u, total), mask=mask)
        tl.store(weights + point * 3 + 1, tl.math.div_rn(v, total), mask=mask)
        tl.store(weights + point * 3 + 2, tl.math.div_rn(w, total), mask=mask)
        tl.store(found + point, tl.math.div_rn(1.0 + tl.zeros([POINTS], tl.float32), total), mask=mask)
        tl.store(areas + point, 0.5 * tl.abs(area), mask=mask)


def visible_faces(projected: Projected, size: tuple[int, int]) -> Tensor:
    """Compute `visible_faces`, "B H W"."""
    (width, height), (views, count) = size, projected.depths.shape
    keys = torch.full((views, height, width), NOTHING, dtype=torch.int64, device=projected.depths.device)
    if len(projected.faces):
        _raster_kernel[(len(projected.faces), views)](
            projected.screen.contiguous(), projected.depths.contiguous(), projected.faces.contiguous(), keys, count,
            width, height, BLOCK=BLOCK, num_warps=1, enable_fp_fusion=False,
        )  # fmt: skip
    return (keys & 0xFFFFFFFF).masked_fill(keys == NOTHING, -1)


def locate(projected: Projected, faces: Tensor, pixels: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `_torch_raster.locate`."""
    screen, depths = projected.screen.contiguous(), projected.depths.contiguous()
    found: tuple[Tensor, Tensor, Tensor] = _Locate.apply(
        screen, depths, projected.faces.contiguous(), faces, pixels, size
    )
    return found


class _Locate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, screen: Tensor, depths: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(screen, depths, *others[:3])
        ctx.size, points = others[3], len(others[1])
        weights, found, areas = (screen.new_empty(points, *more) for more in ((3,), (), ()))
        _run(ctx.size, screen, depths, *others[:3], weights, found, areas, *4 * [weights], backward=False)
        ctx.mark_non_differentiable(areas)
        return weights, found, areas

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("a rasterised point")
        screen, depths, *others = ctx.saved_tensors
        grad_weights, grad_found = (each.contiguous() for each in grad_outputs[:2])
        grad_screen, grad_depths = torch.zeros_like(screen), torch.zeros_like(depths)
        gradients = (grad_weights, grad_found, grad_screen, grad_depths)
        _run(ctx.size, screen, depths, *others, *3 * [grad_weights], *gradients, backward=True)
        return grad_screen, grad_depths, None, None, None, None


def _run(size: tuple[int, int], *tensors: Tensor, backward: bool) -> None:
    """Launch `_locate_kernel`."""
    points = len(tensors[4])
    if points:
        _locate_kernel[(triton.cdiv(points, POINTS),)](
            *tensors, points, tensors[1].shape[1], *size, BACKWARD=backward, POINTS=POINTS, enable_fp_fusion=False
        )
