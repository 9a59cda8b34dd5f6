# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Blend silhouettes by Triton kernels on CUDA: `antialias` of `raster`, in float32. The host never waits.

A first kernel marks on which sides of each edge there are faces. A second goes along the edges with faces on one side,
and keeps for each pair of pixels the greatest 64-bit number of the crossings between them: the reach's bits before the
edge's row. A third blends all pixels, pair by pair; once along rows, once along columns.
"""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from hash3d.kernels import require_last_derivative

from ._torch_raster import Projected

BLOCK = 128
CHANNELS = tl.constexpr(8)
"""At least as many as an image has, a power of 2."""


@triton.jit(do_not_specialize=["num_faces", "num_edges", "num_vertices"])
def _sides_kernel(screen, faces, of_face, has, num_faces, num_edges, num_vertices, BLOCK: tl.constexpr):
    """Mark in `has` "B 2 E" the edges with a face on the right, and on the left, from first to second vertex."""
    face = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = face < num_faces
    screen += tl.program_id(1) * num_vertices * 2
    has += tl.program_id(1) * num_edges * 2
    i = tl.load(faces + face * 3, mask=mask, other=0)
    j = tl.load(faces + face * 3 + 1, mask=mask, other=0)
    k = tl.load(faces + face * 3 + 2, mask=mask, other=0)
    x = tl.load(screen + i * 2, mask=mask, other=0.0)
    y = tl.load(screen + i * 2 + 1, mask=mask, other=0.0)
    x1 = tl.load(screen + j * 2, mask=mask, other=0.0) - x
    y1 = tl.load(screen + j * 2 + 1, mask=mask, other=0.0) - y
    x2 = tl.load(screen + k * 2, mask=mask, other=0.0) - x
    y2 = tl.load(screen + k * 2 + 1, mask=mask, other=0.0) - y
    area = x1 * y2 - x2 * y1
    mask = mask & (area == area)
    clockwise = area >= 0.0
    ones = tl.full([BLOCK], 1, tl.int8)
    for corner in tl.static_range(3):
        edge = tl.load(of_face + face * 3 + corner, mask=mask, other=0)
        if corner == 0:
            forward = j < k
        elif corner == 1:
            forward = k < i
        else:
            forward = i < j
        tl.store(has + tl.where(clockwise == forward, 0, num_edges) + edge, ones, mask=mask)


@triton.jit
def _end(screen, edges, edge, end: tl.constexpr, mask):
    """Vertex, column and row of one end of edges."""
    vertex = tl.load(edges + edge * 2 + end, mask=mask, other=0)
    x = tl.load(screen + vertex * 2, mask=mask, other=0.0)
    return vertex, x, tl.load(screen + vertex * 2 + 1, mask=mask, other=0.0)


@triton.jit(do_not_specialize=["num_edges", "num_vertices"])
def _crossings_kernel(
    screen, depths, edges, has, nearest, best, num_edges, num_vertices, width, height, BLOCK: tl.constexpr
):
    """Keep in `best` "B 2 H W 2" the crossing that reaches farthest out, by direction, inner pixel, and its side."""
    edge = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = edge < num_edges
    view = tl.program_id(1)
    screen += view * num_vertices * 2
    depths += view * num_vertices
    nearest += view * width * height
    best += view * width * height * 4
    right = tl.load(has + view * num_edges * 2 + edge, mask=mask, other=0)
    left = tl.load(has + view * num_edges * 2 + num_edges + edge, mask=mask, other=0)
    mask = mask & (right != left)
    i, ax, ay = _end(screen, edges, edge, 0, mask)
    j, bx, by = _end(screen, edges, edge, 1, mask)
    near = 1.0 / tl.load(depths + i, mask=mask, other=1.0)
    far = 1.0 / tl.load(depths + j, mask=mask, other=1.0)
    steep = tl.abs(by - ay) >= tl.abs(bx - ax)
    # Flat edges act on columns, which are the rows of the transposed image: left becomes right there.
    x0 = tl.where(steep, ax, ay)
    y0 = tl.where(steep, ay, ax)
    x1 = tl.where(steep, bx, by)
    y1 = tl.where(steep, by, bx)
    inner_left = (y1 > y0) == ((right != 0) == steep)
    across = tl.where(steep, width, height)
    down = tl.where(steep, height, width)
    first = tl.minimum(tl.maximum(tl.ceil(tl.minimum(y0, y1) - 0.5), 0.0), down.to(tl.float32)).to(tl.int32)
    last = tl.minimum(tl.maximum(tl.ceil(tl.maximum(y0, y1) - 0.5), 0.0), down.to(tl.float32)).to(tl.int32)
    count = tl.where(mask, last - first, 0)
    stride = tl.where(steep, 1, width)
    best += tl.where(steep, 0, width * height * 2)
    for step in range(0, tl.max(count, axis=0)):
        row = first + step
        weight = tl.math.div_rn(row.to(tl.float32) + 0.5 - y0, y1 - y0)
        place = x0 + weight * (x1 - x0)
        inverse = tl.where(weight < 0.5, near + weight * (far - near), far - (far - near) * (1.0 - weight))
        depth = 1.0 / inverse
        start = tl.floor(place - 0.5)
        inside = (step < count) & (start >= 0.0) & (start < across - 1.0)
        pixel = tl.where(steep, row * width, row) + tl.where(inside, start, 0.0).to(tl.int32) * stride
        inner = pixel + tl.where(inner_left, 0, stride)
        outer = pixel + tl.where(inner_left, stride, 0)
        depth_in = tl.load(nearest + inner, mask=inside, other=0.0)
        depth_out = tl.load(nearest + outer, mask=inside, other=0.0)
        kept = inside & (depth_out > depth) & (2.0 * depth_in < depth + depth_out)
        offset = place - 0.5 - start
        reach = tl.where(inner_left, offset, 1.0 - offset)
        key = (reach.to(tl.int32, bitcast=True).to(tl.int64) << 32) | edge.to(tl.int64)
        tl.atomic_max(best + inner * 2 + inner_left.to(tl.int32), key, mask=kept, sem="relaxed")


@triton.jit
def _weight(best, inner, side: tl.constexpr, mask):
    """The signed weight between an inner pixel and the one beside it, 0 for none, and the edge."""
    key = tl.load(best + inner * 2 + side, mask=mask, other=-1)
    reach = (key >> 32).to(tl.int32).to(tl.float32, bitcast=True)
    return tl.where(key < 0, 0.0, reach - 0.5), key & 0xFFFFFFFF, mask & (key >= 0)


@triton.jit
def _channels(image, pixel, mask, num_channels):
    channel = tl.arange(0, CHANNELS)
    return tl.load(
        image + pixel[:, None] * num_channels + channel, mask=mask[:, None] & (channel < num_channels), other=0.0
    )


@triton.jit
def _pass_back(screen, edges, grad_screen, edge, weight, slope, mask, row, side: tl.constexpr, COLUMNS: tl.constexpr):
    """Add the gradients of an edge's ends: `slope` is that of the signed weight of a crossing of a row."""
    i, ax, ay = _end(screen, edges, edge, 0, mask)
    j, bx, by = _end(screen, edges, edge, 1, mask)
    if COLUMNS:
        ax, ay, bx, by = ay, ax, by, bx
    gradient = slope if side else -slope
    share = (row.to(tl.float32) + 0.5 - ay) / (by - ay)
    turned = -gradient * (bx - ax) / (by - ay)
    tl.atomic_add(grad_screen + i * 2 + COLUMNS, gradient * (1.0 - share), mask=mask, sem="relaxed")
    tl.atomic_add(grad_screen + j * 2 + COLUMNS, gradient * share, mask=mask, sem="relaxed")
    tl.atomic_add(grad_screen + i * 2 + 1 - COLUMNS, turned * (1.0 - share), mask=mask, sem="relaxed")
    tl.atomic_add(grad_screen + j * 2 + 1 - COLUMNS, turned * share, mask=mask, sem="relaxed")


@triton.jit(do_not_specialize=["num_vertices"])
def _blend_kernel(
    image, best, result, screen, edges, grad, grad_screen, num_vertices, num_channels, width, height,
    COLUMNS: tl.constexpr, BACKWARD: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Blend the pairs along rows, or COLUMNS; BACKWARD: write the image's gradient, and add that of `screen`."""
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < width * height
    view = tl.program_id(1)
    image += view * width * height * num_channels
    result += view * width * height * num_channels
    grad += view * width * height * num_channels
    best += view * width * height * 4 + COLUMNS * width * height * 2
    screen += view * num_vertices * 2
    grad_screen += view * num_vertices * 2
    place = pixel // width if COLUMNS else pixel % width
    row = pixel % width if COLUMNS else pixel // width
    stride = width if COLUMNS else 1
    across = height if COLUMNS else width
    own = _channels(image, pixel, mask, num_channels)
    total = _channels(grad, pixel, mask, num_channels) if BACKWARD else own
    received = total
    for side in tl.static_range(2):
        # The pixel beside: on the right of an inner pixel that is on the left (side 1), or the reverse.
        beside = pixel + stride if side else pixel - stride
        there = mask & ((place < across - 1) if side else (place > 0))
        other = _channels(image, beside, there, num_channels)
        outward, edge, crossed = _weight(best, pixel, side, there)
        inward, _, _ = _weight(best, beside, 1 - side, there)
        # The other pixel's colour comes in where this one is the outer one and an edge reaches over its middle, or
        # where this one is the inner one and the edge does not reach its own.
        comes = tl.maximum(-outward, 0.0) + tl.maximum(inward, 0.0)
        if BACKWARD:
            goes = tl.maximum(outward, 0.0) + tl.maximum(-inward, 0.0)
            beyond = _channels(grad, beside, there, num_channels)
            total += goes[:, None] * beyond - comes[:, None] * received
            # A positive weight brings this colour to the other pixel, a negative one the other's to this.
            brought = tl.where((outward > 0.0)[:, None], (own - other) * beyond, (own - other) * received)
            slope = tl.where(outward == 0.0, 0.0, tl.sum(brought, axis=1))
            _pass_back(screen, edges, grad_screen, edge, outward, slope, crossed, row, side, COLUMNS)
        else:
            total += comes[:, None] * (other - own)
    channel = tl.arange(0, CHANNELS)
    tl.store(result + pixel[:, None] * num_channels + channel, total, mask=mask[:, None] & (channel < num_channels))


def antialias(image: Tensor, nearest: Tensor, projected: Projected, edges: Tensor, of_face: Tensor) -> Tensor:
    """Compute `raster.antialias`; `edges` are pairs of vertices, `of_face` those of each face."""
    tensors = (nearest, projected.depths.detach(), edges, projected.faces, of_face)
    result: Tensor = _Antialias.apply(
        image.contiguous(), projected.screen.contiguous(), *(each.contiguous() for each in tensors)
    )
    return result


class _Antialias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, image: Tensor, screen: Tensor, *others: Tensor) -> Tensor:
        nearest, depths, edges, faces, of_face = others
        (views, height, width, _), vertices = image.shape, depths.shape[1]
        has = torch.zeros(views, 2, len(edges), dtype=torch.int8, device=image.device)
        best = torch.full((views, 2, height, width, 2), -1, dtype=torch.int64, device=image.device)
        if len(faces):
            _sides_kernel[(triton.cdiv(len(faces), BLOCK), views)](
                screen, faces, of_face, has, len(faces), len(edges), vertices, BLOCK=BLOCK, enable_fp_fusion=False
            )
            _crossings_kernel[(triton.cdiv(len(edges), BLOCK), views)](
                screen, depths, edges, has, nearest, best, len(edges), vertices, width, height, BLOCK=BLOCK,
                enable_fp_fusion=False,
            )  # fmt: skip
        middle, result = torch.empty_like(image), torch.empty_like(image)
        ctx.save_for_backward(image, middle, best, screen, edges)
        _blend(image, best, middle, screen, edges, image, screen, columns=False, backward=False)
        _blend(middle, best, result, screen, edges, image, screen, columns=True, backward=False)
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("antialiasing")
        image, middle, best, screen, edges = ctx.saved_tensors
        (grad,) = (each.contiguous() for each in grad_outputs)
        grad_middle, grad_image, grad_screen = torch.empty_like(grad), torch.empty_like(grad), torch.zeros_like(screen)
        _blend(middle, best, grad_middle, screen, edges, grad, grad_screen, columns=True, backward=True)
        _blend(image, best, grad_image, screen, edges, grad_middle, grad_screen, columns=False, backward=True)
        return grad_image, grad_screen, None, None, None, None, None


def _blend(image: Tensor, *tensors: Tensor, columns: bool, backward: bool) -> None:
    """Launch `_blend_kernel`."""
    views, height, width, channels = image.shape
    _blend_kernel[(triton.cdiv(height * width, BLOCK), views)](
        image,
        *tensors,
        tensors[2].shape[1],
        channels,
        width,
        height,
        COLUMNS=int(columns),
        BACKWARD=backward,
        BLOCK=BLOCK,
    )
