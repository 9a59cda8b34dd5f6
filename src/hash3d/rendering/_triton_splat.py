# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Gaussian splatting by Triton on CUDA, without a wait of the host: a CUDA graph can hold it, forward and backward.

Each bin of the image has a list of the Gaussians whose boxes touch it, front to back: one program a bin goes through
all of them twice, to count and to write, and takes its places in one list of a fixed `capacity`. A bin that finds no
place is drawn as NaN, so that no step is taken from it. A tile, a part of a bin, composites a chunk of Gaussians at
once over all its pixels by a running product. The backward pass is the same walk again: with S the light that a pixel
still receives from behind, d(pixel) / d(alpha_i) = T_i v_i - S_i / (1 - alpha_i).
"""

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cache.messages import tell
from hash3d.fast.cuda_graph import inside_recording
from hash3d.kernels import require_last_derivative

from . import _torch_splat
from ._triton_project import BLOCK, project_backward_kernel, project_kernel
from .base import Render
from .splat import SplatJob

BIN = 16
"""Pixels a side of what has a list of its own."""
FORWARD = {"BIN": BIN, "TILE": 8, "CHUNK": 16, "AXIS": 0, "num_warps": 2}
"""TILE: pixels a side of what one program draws, a divisor of `BIN`. CHUNK: Gaussians that it composites at once. AXIS:
theirs in its tensors of two axes, the other is that of the pixels."""
BACKWARD = {"BIN": BIN, "TILE": 8, "CHUNK": 8, "AXIS": 0, "num_warps": 1}
LIST_BLOCK = 512
"""Gaussians that a bin looks at, at once."""
MAX_SIZE = 255 * BIN
"""Pixels a side of the largest image: a box has a byte a side."""
RESERVE = {"places": 1 << 25}
"""How many are made without being asked for, 128 MiB; where images needed more, so many from then on."""
MAX_ALPHA = tl.constexpr(_torch_splat.MAX_ALPHA)


class Lists(NamedTuple):
    """The Gaussians of each bin: `rows` from `starts` on, `counts` of them."""

    rows: Int[Tensor, " capacity"]
    starts: Int[Tensor, "B bins"]
    counts: Int[Tensor, "B bins"]
    need: Int[Tensor, " 1"]
    """Places that all bins need; more than the capacity: some are drawn as NaN."""


@triton.jit
def _hits(order, boxes, first, count, x, y, BLOCK: tl.constexpr):
    """The next Gaussians by depth, and whether each touches the bin at column x and row y."""
    place = first + tl.arange(0, BLOCK)
    row = tl.load(order + place, mask=place < count, other=0).to(tl.int32)
    box = tl.load(boxes + row, mask=place < count, other=0)
    across = ((box & 255) <= x) & (x < ((box >> 8) & 255))
    return row, (across & (((box >> 16) & 255) <= y) & (y < ((box >> 24) & 255))).to(tl.int32)


@triton.jit(do_not_specialize=["count", "capacity"])
def _list_kernel(order, boxes, rows, starts, counts, need, count, capacity, bins_x, BLOCK: tl.constexpr):
    """Fill the list of one bin."""
    view, program = tl.program_id(1), tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
    x, y = tl.program_id(0) % bins_x, tl.program_id(0) // bins_x
    order += view * count
    boxes += view * count
    found = 0
    for first in range(0, count, BLOCK):
        _, hit = _hits(order, boxes, first, count, x, y, BLOCK)
        found += tl.sum(hit, axis=0)
    start = tl.atomic_add(need, found, sem="relaxed")
    tl.store(starts + program, start)
    tl.store(counts + program, found)
    if (start >= 0) & (start + found <= capacity):  # Below 0: more than 2^31 were asked for.
        for first in range(0, count, BLOCK):
            row, hit = _hits(order, boxes, first, count, x, y, BLOCK)
            tl.store(rows + start + tl.cumsum(hit, axis=0) - hit, row, mask=hit > 0)
            start += tl.sum(hit, axis=0)


@triton.jit
def _tile(starts, counts, capacity, width, height, bins_x, BIN: tl.constexpr, TILE: tl.constexpr):
    """A program's pixels: columns, rows, places in "B H W", whether they exist; its list: start, end, whether whole."""
    tiles_x = tl.cdiv(width, TILE)
    left, top = tl.program_id(0) % tiles_x * TILE, tl.program_id(0) // tiles_x * TILE
    place = tl.arange(0, TILE * TILE)
    x, y = left + place % TILE, top + place // TILE
    bins = tl.program_id(1) * (bins_x * tl.cdiv(height, BIN)) + top // BIN * bins_x + left // BIN
    start = tl.load(starts + bins)
    end = start + tl.load(counts + bins)
    pixel = (tl.program_id(1) * height + y) * width + x
    return x + 0.5, y + 0.5, pixel, (x < width) & (y < height), start, end, (start >= 0) & (end <= capacity)


@triton.jit
def _load(splats, offset, mask, column: tl.constexpr, AXIS: tl.constexpr):
    """Load one number of each Gaussian, to be used with pixels: the Gaussians are axis `AXIS` of 2."""
    return tl.expand_dims(tl.load(splats + offset + column, mask=mask, other=0.0), 1 - AXIS)


@triton.jit
def _chunk(
    splats, rows, first, end, count, x, y, open, min_alpha, min_transmittance, CHUNK: tl.constexpr, AXIS: tl.constexpr
):  # fmt: skip
    """The next Gaussians of a list at all pixels of a tile.

    Returns their offsets in `splats` and whether they exist; distances, alphas without the clamp, alphas, whether they
    are summed, and the transmittance behind them, from `open`, that of all before.
    """
    place = first + tl.arange(0, CHUNK)
    mask = place < end
    offset = (tl.program_id(1) * count + tl.load(rows + place, mask=mask, other=0)) * 10
    dx = tl.expand_dims(x, AXIS) - _load(splats, offset, mask, 0, AXIS)
    dy = tl.expand_dims(y, AXIS) - _load(splats, offset, mask, 1, AXIS)
    xx, yy = _load(splats, offset, mask, 2, AXIS), _load(splats, offset, mask, 4, AXIS)
    power = 0.5 * (xx * dx * dx + yy * dy * dy) + _load(splats, offset, mask, 3, AXIS) * dx * dy
    raw = _load(splats, offset, mask, 5, AXIS) * tl.exp(-power)
    alpha = tl.minimum(raw, MAX_ALPHA)
    enough = alpha >= min_alpha
    after = tl.expand_dims(open, AXIS) * tl.cumprod(tl.where(enough, 1.0 - alpha, 1.0), axis=AXIS)
    return offset, mask, dx, dy, raw, alpha, enough & (after > min_transmittance), after


@triton.jit(do_not_specialize=["count", "capacity"])
def _blend_kernel(
    splats, rows, starts, counts, background, image, count, capacity, width, height, bins_x, min_alpha,
    min_transmittance, BIN: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr, AXIS: tl.constexpr,
):  # fmt: skip
    """Fill a tile of `image` "B H W 5": red, green, blue, depth, alpha."""
    x, y, pixel, inside, first, end, whole = _tile(starts, counts, capacity, width, height, bins_x, BIN, TILE)
    red = tl.zeros([TILE * TILE], tl.float32) + tl.where(whole, 0.0, float("nan"))
    green, blue, depth, open, left = red, red, red, red + 1.0, red + 1.0
    end = tl.where(whole, end, first)
    while first < end:
        offset, mask, _, _, _, alpha, kept, after = _chunk(
            splats, rows, first, end, count, x, y, open, min_alpha, min_transmittance, CHUNK, AXIS
        )
        weight = tl.where(kept, alpha * after / (1.0 - alpha), 0.0)
        red += tl.sum(weight * _load(splats, offset, mask, 6, AXIS), axis=AXIS)
        green += tl.sum(weight * _load(splats, offset, mask, 7, AXIS), axis=AXIS)
        blue += tl.sum(weight * _load(splats, offset, mask, 8, AXIS), axis=AXIS)
        depth += tl.sum(weight * _load(splats, offset, mask, 9, AXIS), axis=AXIS)
        left = tl.minimum(left, tl.min(tl.where(kept, after, 1.0), axis=AXIS))
        open = tl.min(after, axis=AXIS)
        first = tl.where(tl.max(open, axis=0) > min_transmittance, first + CHUNK, end)
    back = background + tl.program_id(1) * 3
    tl.store(image + pixel * 5, red + left * tl.load(back), mask=inside)
    tl.store(image + pixel * 5 + 1, green + left * tl.load(back + 1), mask=inside)
    tl.store(image + pixel * 5 + 2, blue + left * tl.load(back + 2), mask=inside)
    tl.store(image + pixel * 5 + 3, depth, mask=inside)
    tl.store(image + pixel * 5 + 4, 1.0 - left, mask=inside)


@triton.jit
def _add(table, column: tl.constexpr, values, mask, AXIS: tl.constexpr):
    """Add the sum over the pixels to one column."""
    tl.atomic_add(table + column, tl.sum(values, axis=1 - AXIS), mask=mask, sem="relaxed")


@triton.jit(do_not_specialize=["count", "capacity"])
def _blend_backward_kernel(
    splats, rows, starts, counts, image, grad_image, sums, count, capacity, width, height, bins_x, min_alpha,
    min_transmittance, BIN: tl.constexpr, TILE: tl.constexpr, CHUNK: tl.constexpr, AXIS: tl.constexpr,
):  # fmt: skip
    """Add those of one tile to the `sums` of `project_backward_kernel`."""
    x, y, pixel, inside, first, end, whole = _tile(starts, counts, capacity, width, height, bins_x, BIN, TILE)
    g_red = tl.load(grad_image + pixel * 5, mask=inside, other=0.0)
    g_green = tl.load(grad_image + pixel * 5 + 1, mask=inside, other=0.0)
    g_blue = tl.load(grad_image + pixel * 5 + 2, mask=inside, other=0.0)
    g_depth = tl.load(grad_image + pixel * 5 + 3, mask=inside, other=0.0)
    behind = g_red * tl.load(image + pixel * 5, mask=inside, other=0.0)
    behind += g_green * tl.load(image + pixel * 5 + 1, mask=inside, other=0.0)
    behind += g_blue * tl.load(image + pixel * 5 + 2, mask=inside, other=0.0)
    behind += g_depth * tl.load(image + pixel * 5 + 3, mask=inside, other=0.0)
    g_alpha = tl.load(grad_image + pixel * 5 + 4, mask=inside, other=0.0)
    behind += g_alpha * (tl.load(image + pixel * 5 + 4, mask=inside, other=0.0) - 1.0)
    g_red, g_green = tl.expand_dims(g_red, AXIS), tl.expand_dims(g_green, AXIS)
    g_blue, g_depth = tl.expand_dims(g_blue, AXIS), tl.expand_dims(g_depth, AXIS)
    open = tl.where(inside, 1.0, 0.0)
    end = tl.where(whole, end, first)
    while first < end:
        offset, mask, dx, dy, raw, alpha, kept, after = _chunk(
            splats, rows, first, end, count, x, y, open, min_alpha, min_transmittance, CHUNK, AXIS
        )
        before = after / (1.0 - alpha)
        weight = tl.where(kept, alpha * before, 0.0)
        value = g_red * _load(splats, offset, mask, 6, AXIS) + g_green * _load(splats, offset, mask, 7, AXIS)
        value += g_blue * _load(splats, offset, mask, 8, AXIS) + g_depth * _load(splats, offset, mask, 9, AXIS)
        left = tl.expand_dims(behind, AXIS) - tl.cumsum(weight * value, axis=AXIS)
        power = tl.where(kept & (raw <= MAX_ALPHA), (left / (1.0 - alpha) - before * value) * raw, 0.0)
        table = sums + offset
        by_x, by_y = power * dx, power * dy
        _add(table, 0, by_x, mask, AXIS)
        _add(table, 1, by_y, mask, AXIS)
        _add(table, 2, by_x * dx, mask, AXIS)
        _add(table, 3, by_x * dy, mask, AXIS)
        _add(table, 4, by_y * dy, mask, AXIS)
        _add(table, 5, power, mask, AXIS)
        _add(table, 6, weight * g_red, mask, AXIS)
        _add(table, 7, weight * g_green, mask, AXIS)
        _add(table, 8, weight * g_blue, mask, AXIS)
        _add(table, 9, weight * g_depth, mask, AXIS)
        behind -= tl.sum(weight * value, axis=AXIS)
        open = tl.min(after, axis=AXIS)
        first = tl.where(tl.max(open, axis=0) > min_transmittance, first + CHUNK, end)


def render_triton(job: SplatJob, capacity: int | None = None) -> tuple[Render, Int[Tensor, " 1"]]:
    """Render as `render_torch` up to rounding, float32 on CUDA; once differentiable.

    Returns the places that the bins' lists need, on the device, too. More than `capacity`: some bins are NaN. None is
    enough: the host waits only where lists might need more than `RESERVE`. A CUDA graph keeps what there is by then.
    """
    splats = job.splats
    if len(splats) == 0:
        return _torch_splat.render_torch(job), torch.zeros(1, dtype=torch.int32, device=job.background.device)
    if max(job.size) > MAX_SIZE:
        raise ValueError(f"Expected images of at most {MAX_SIZE} pixels a side, but got {job.size}.")
    if capacity is None:
        most = full_capacity(job.size, len(job.viewmats), len(splats))
        rendered = render_triton(job, capacity := min(most, RESERVE["places"]))
        if capacity == most or inside_recording() or (need := int(rendered[1])) <= capacity:
            return rendered
        RESERVE["places"] = 2 * need
        tell(f"An image needs {need} places in its Gaussians' lists, not {capacity}: from now on there are {2 * need}.")
        return render_triton(job)
    scene = (splats.means, splats.quats, splats.scales, splats.opacities, splats.colors)
    image, need = _Splatting.apply(*scene, job.background, job.probe, job, capacity)
    return Render(color=image[..., :3], depth=image[..., 3:4], alpha=image[..., 4:]), need


def full_capacity(size: tuple[int, int], views: int, count: int) -> int:
    """Places in lists that hold every Gaussian in every bin of every view: no image needs more."""
    across, down = (triton.cdiv(each, BIN) for each in size)
    return max(1, views * across * down * count)


class _Splatting(torch.autograd.Function):
    """Images "B H W 5" (red, green, blue, depth, alpha), and the places that the lists need."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, Tensor]:
        *tensors, job, capacity = inputs
        *scene, background, probe = (tensor.contiguous() for tensor in tensors)
        cameras, config = (job.viewmats.contiguous(), job.intrinsics.contiguous()), job.config
        views, count, like = len(background), len(scene[0]), scene[0]
        splats, depths = like.new_empty(views, count, 10), like.new_empty(views, count)
        boxes = torch.empty_like(depths, dtype=torch.int32)
        project_kernel[triton.cdiv(count, BLOCK), views](
            *scene, probe, *cameras, splats, depths, boxes, count, *job.size, config.near, config.eps2d,
            config.min_alpha, BIN=BIN, BLOCK=BLOCK, num_warps=2,
        )  # fmt: skip
        lists = _make_lists(depths, boxes, job.size, capacity)
        image = like.new_empty(views, *job.size[::-1], 5)
        limits = config.min_alpha, config.min_transmittance
        ctx.arguments = (count, capacity, *job.size, triton.cdiv(job.size[0], BIN), *limits)
        _blend_kernel[_grid(FORWARD, image)](splats, *lists[:3], background, image, *ctx.arguments, **FORWARD)
        ctx.save_for_backward(*scene[:3], *cameras, splats, boxes, image, *lists[:3])
        ctx.mark_non_differentiable(lists.need)
        return image, lists.need

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:
        require_last_derivative("the image of Gaussians")
        means, quats, scales, viewmats, intrinsics, splats, boxes, image, *lists = ctx.saved_tensors
        grad_image, sums = grad_outputs[0].contiguous(), torch.zeros_like(splats)
        views, count = boxes.shape
        _blend_backward_kernel[_grid(BACKWARD, image)](
            splats, *lists, image, grad_image, sums, *ctx.arguments, **BACKWARD
        )
        grads = [torch.empty_like(each) for each in (means, quats, scales)]
        grads += [means.new_empty(count), torch.empty_like(means), means.new_empty(views, count, 2)]
        project_backward_kernel[(triton.cdiv(count, BLOCK),)](
            means, quats, scales, viewmats, intrinsics, splats, boxes, sums, *grads, count, views,
            image.shape[2], image.shape[1], BLOCK=BLOCK, num_warps=2,
        )  # fmt: skip
        needed = ctx.needs_input_grad[5]
        back = torch.einsum("bhw,bhwc->bc", 1.0 - image[..., 4], grad_image[..., :3]) if needed else None
        return *grads[:5], back, grads[5], None, None


def _grid(shape: dict[str, int], image: Float[Tensor, "B H W 5"]) -> tuple[int, int]:
    """A program for each tile of each image."""
    views, height, width, _ = image.shape
    return triton.cdiv(width, shape["TILE"]) * triton.cdiv(height, shape["TILE"]), views


def _make_lists(depths: Float[Tensor, "B N"], boxes: Int[Tensor, "B N"], size: tuple[int, int], capacity: int) -> Lists:
    """List the Gaussians of each bin, nearest first; ties keep their order."""
    across, down = (triton.cdiv(each, BIN) for each in size)
    views, count = depths.shape
    order = depths.argsort(dim=-1, stable=True)
    rows = torch.empty(capacity, dtype=torch.int32, device=depths.device)
    starts = torch.empty(views, across * down, dtype=torch.int32, device=depths.device)
    lists = Lists(rows, starts, torch.empty_like(starts), torch.zeros(1, dtype=torch.int32, device=depths.device))
    _list_kernel[across * down, views](order, boxes, *lists, count, capacity, across, BLOCK=LIST_BLOCK, num_warps=4)
    return lists
