# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The read of `blend.blend_entries` for all views of a call in two Triton kernels; imported lazily, on a GPU.

M views, of at most K entries each. Where everything lies comes as addresses, in one copy from pinned memory that nobody
waits for. One kernel measures the M K distances, the other weighs and blends. Sums are made in float32.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .calls import Entry, is_channels_last

TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32}
BLOCK = 1024
"""Numbers that a program holds at a time."""
ALIGNMENT = 16
"""Bytes that a thread can load at once, if all addresses are multiples of it."""


def fits(entries: Sequence[Sequence[Entry]]) -> bool:
    """Whether the kernels know the dtype of these entries, and all lie in memory in the same order."""
    first = entries[0][0]
    same = {entry.feature.stride() for view in entries for entry in view} == {first.feature.stride()}
    return same and first.latents.dtype in TYPES and first.feature.dtype in TYPES


def read(latents: Sequence[Tensor], entries: Sequence[Sequence[Entry]]) -> Tensor:
    """The features [S, M, ...] of M views from their noisy latents [C, h, w] and the entries found for each.

    A view of one entry gets its feature bit for bit. The order in memory is that of the entries' features.
    """
    first, device = entries[0][0], latents[0].device
    views, most, size = len(entries), max(map(len, entries)), first.feature.numel()
    queries = [each.to(first.latents.dtype).contiguous() for each in latents]
    out = _empty_like(first.feature, views)
    addresses = _addresses(queries, entries, most)
    aligned = all(address % ALIGNMENT == 0 for address in addresses)
    table = torch.tensor(addresses, pin_memory=device.type == "cuda").to(device, non_blocking=True)
    distances = torch.empty(views, most, device=device)
    with torch.cuda.device_of(out):
        if most > 1:
            count, length = views * most, first.latents.numel()
            _distance_kernel[(count,)](table, distances, count, length, TYPES[first.latents.dtype], aligned, BLOCK)
        _blend_kernel[(triton.cdiv(size, BLOCK), views)](
            table, distances, out, views, most, size, first.feature[0].numel(),
            TYPE=TYPES[out.dtype], PADDED=triton.next_power_of_2(most), ALIGNED=aligned, BLOCK=BLOCK,
        )  # fmt: skip
    return out


def _empty_like(feature: Tensor, views: int) -> Tensor:
    """A tensor [S, M, ...] for the features of M views, in a feature's order of memory."""
    branches, *shape = feature.shape
    if not is_channels_last(feature):
        return feature.new_empty(branches, views, *shape)
    channels, height, width = shape
    return feature.new_empty(branches, views, height, width, channels).movedim(-1, -3)


def _addresses(queries: Sequence[Tensor], entries: Sequence[Sequence[Entry]], most: int) -> list[int]:
    """[3, M, K] numbers, row by row: where query, latents and feature of an entry lie; 0: nowhere."""
    rows: list[list[int]] = [[], [], []]
    for query, found in zip(queries, entries, strict=True):
        for entry in found:
            for row, tensor in zip(rows, (query, entry.latents, entry.feature), strict=True):
                row.append(tensor.data_ptr())
        for row in rows:
            row += [0] * (most - len(found))
    return [address for row in rows for address in row]


@triton.jit
def _pointer(address, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """An address as a pointer to numbers of a type."""
    pointer = address.to(tl.pointer_type(TYPE))
    return tl.multiple_of(pointer, 16) if ALIGNED else pointer


@triton.jit(do_not_specialize=["count"])
def _distance_kernel(table, distances, count, numbers, TYPE: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr):
    """The distance of one entry's latents from its view's; infinite where there is no entry."""
    place = tl.program_id(0)
    address = tl.load(table + count + place)
    if address == 0:
        tl.store(distances + place, float("inf"))
    else:
        query, stored = _pointer(tl.load(table + place), TYPE, ALIGNED), _pointer(address, TYPE, ALIGNED)
        total = tl.zeros([BLOCK], tl.float32)
        for start in range(0, numbers, BLOCK):
            index = start + tl.arange(0, BLOCK)
            inside = index < numbers
            one = tl.load(query + index, inside, other=0.0).to(tl.float32)
            other = tl.load(stored + index, inside, other=0.0).to(tl.float32)
            total += (one - other) * (one - other)
        tl.store(distances + place, tl.sqrt(tl.sum(total)))


@triton.jit
def _values(table, entry, count, index, inside, TYPE: tl.constexpr, ALIGNED: tl.constexpr):
    """Numbers of an entry's feature, in float32."""
    feature = _pointer(tl.load(table + 2 * count + entry), TYPE, ALIGNED)
    return tl.load(feature + index, inside, other=0.0).to(tl.float32)


@triton.jit(do_not_specialize=["views", "most"])
def _blend_kernel(
    table, distances, out, views, most, size, numbers,
    TYPE: tl.constexpr, PADDED: tl.constexpr, ALIGNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK numbers of one view's feature of `size` numbers, `numbers` a branch."""
    view = tl.program_id(1)
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    count, first = views * most, view * most
    blend = _values(table, first, count, index, inside, TYPE, ALIGNED)
    if PADDED > 1:
        places = tl.arange(0, PADDED)
        distance = tl.load(distances + first + places, places < most, other=float("inf"))
        weights = tl.exp(tl.min(distance) - distance)
        weights /= tl.sum(weights)
        blend *= tl.sum(tl.where(places == 0, weights, 0.0))
        for place in range(1, most):
            if tl.load(table + 2 * count + first + place) != 0:
                values = _values(table, first + place, count, index, inside, TYPE, ALIGNED)
                blend += tl.sum(tl.where(places == place, weights, 0.0)) * values
    branch = index // numbers
    tl.store(out + (branch * views + view) * numbers + index % numbers, blend.to(out.dtype.element_ty), inside)
