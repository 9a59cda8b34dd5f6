# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The read of `aggregate.blended` for all views of a call in two Triton kernels; imported lazily, on a GPU.

M views, of at most K entries each. Where everything lies comes as addresses, in one copy from pinned memory that nobody
waits for. One kernel measures the M K distances, the other weighs, dequantises and blends. Sums are made in float32.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from .quantise import Quantised
from .slots import empty, is_channels_last
from .store import Entry

TYPES = {torch.float16: tl.float16, torch.bfloat16: tl.bfloat16, torch.float32: tl.float32, torch.int8: tl.int8}
BLOCK = 1024
"""Numbers that a program holds at a time."""
ALIGNMENT = 16
"""Bytes that a thread can load at once, if all addresses are multiples of it."""


def fits(entry: Entry) -> bool:
    """Whether the kernels know the dtypes of such an entry."""
    return entry.latents.dtype in TYPES and entry.feature.dtype in TYPES


def fused(latents: Sequence[Tensor], entries: Sequence[Sequence[Entry]]) -> Tensor:
    """The features [S, M, ...] of M views from their noisy latents [C, h, w] and the entries found for each.

    A view of one entry gets its feature bit for bit. The order in memory is that of the entries' features.
    """
    first, device = entries[0][0], latents[0].device
    codes, scale = _parts(first)
    views, most = len(entries), max(map(len, entries))
    branches, *shape = codes.shape
    size, numbers, channels_last = codes.numel(), codes[0].numel(), is_channels_last(codes)
    queries = [each.to(first.latents.dtype).contiguous() for each in latents]
    addresses = _addresses(queries, entries, most)
    aligned = all(address % ALIGNMENT == 0 for address in addresses)
    table = torch.tensor(addresses, pin_memory=device.type == "cuda").to(device, non_blocking=True)
    distances = torch.empty(views, most, device=device)
    out = empty((branches, views, *shape), first.feature.dtype, device, channels_last=channels_last)
    with torch.cuda.device_of(out):
        if most > 1:
            count, length = views * most, first.latents.numel()
            _distance_kernel[(count,)](table, distances, count, length, TYPES[first.latents.dtype], aligned, BLOCK)
        _blend_kernel[(triton.cdiv(size, BLOCK), views)](
            table, distances, out, views, most, size, numbers, shape[0],
            TYPE=TYPES[codes.dtype], INT8=scale is not None, PADDED=triton.next_power_of_2(most),
            ALIGNED=aligned, CHANNELS_LAST=channels_last, BLOCK=BLOCK,
        )  # fmt: skip
    return out


def _parts(entry: Entry) -> tuple[Tensor, Tensor | None]:
    """The numbers of an entry's feature and, if they are in 8 bits, their scale."""
    feature = entry.feature
    return (feature.codes, feature.scale) if isinstance(feature, Quantised) else (feature, None)


def _addresses(queries: Sequence[Tensor], entries: Sequence[Sequence[Entry]], most: int) -> list[int]:
    """[4, M, K] numbers, row by row: where query, latents, feature and scale of an entry lie; 0: nowhere."""
    rows: list[list[int]] = [[], [], [], []]
    for query, found in zip(queries, entries, strict=True):
        for entry in found:
            codes, scale = _parts(entry)
            tensors = (query, entry.latents, codes, scale)
            for row, tensor in zip(rows, tensors, strict=True):
                row.append(0 if tensor is None else tensor.data_ptr())
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
        query = _pointer(tl.load(table + place), TYPE, ALIGNED)
        stored = _pointer(address, TYPE, ALIGNED)
        total = tl.zeros([BLOCK], tl.float32)
        for start in range(0, numbers, BLOCK):
            index = start + tl.arange(0, BLOCK)
            inside = index < numbers
            one = tl.load(query + index, inside, other=0.0).to(tl.float32)
            other = tl.load(stored + index, inside, other=0.0).to(tl.float32)
            total += (one - other) * (one - other)
        tl.store(distances + place, tl.sqrt(tl.sum(total)))


@triton.jit
def _values(
    table, entry, count, index, inside, numbers, channels,
    TYPE: tl.constexpr, INT8: tl.constexpr, ALIGNED: tl.constexpr, CHANNELS_LAST: tl.constexpr,
):  # fmt: skip
    """Numbers of an entry's feature, in float32."""
    codes = tl.load(_pointer(tl.load(table + 2 * count + entry), TYPE, ALIGNED) + index, inside, other=0)
    values = codes.to(tl.float32)
    if INT8:
        channel = index // numbers * channels + index % channels if CHANNELS_LAST else index // (numbers // channels)
        scale = tl.load(table + 3 * count + entry).to(tl.pointer_type(tl.float32))
        values *= tl.load(scale + channel, inside, other=0.0)
    return values


@triton.jit(do_not_specialize=["views", "most"])
def _blend_kernel(
    table, distances, out, views, most, size, numbers, channels,
    TYPE: tl.constexpr, INT8: tl.constexpr, PADDED: tl.constexpr, ALIGNED: tl.constexpr, CHANNELS_LAST: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """BLOCK numbers of one view's feature of `size` numbers, `numbers` a branch."""
    view = tl.program_id(1)
    index = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = index < size
    count, first = views * most, view * most
    blend = _values(table, first, count, index, inside, numbers, channels, TYPE, INT8, ALIGNED, CHANNELS_LAST)
    if PADDED > 1:
        places = tl.arange(0, PADDED)
        distance = tl.load(distances + first + places, places < most, other=float("inf"))
        weights = tl.exp(tl.min(distance) - distance)
        weights /= tl.sum(weights)
        blend *= tl.sum(tl.where(places == 0, weights, 0.0))
        for place in range(1, most):
            if tl.load(table + 2 * count + first + place) != 0:
                values = _values(
                    table, first + place, count, index, inside, numbers, channels, TYPE, INT8, ALIGNED, CHANNELS_LAST
                )
                blend += tl.sum(tl.where(places == place, weights, 0.0)) * values
    branch = index // numbers
    tl.store(out + (branch * views + view) * numbers + index % numbers, blend.to(out.dtype.element_ty), inside)
