"""Tensors on their device: copies from the host that wait for nothing, and whether they are finite."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def all_finite(values: Any) -> Bool[Tensor, ""]:
    """Whether all floating-point tensors in nested mappings, lists and tuples hold neither NaN nor infinity.

    The answer lies where the first of them does. Least and largest number are ten times as fast as `isfinite` on a CPU.
    """
    flags = [torch.stack(torch.aminmax(each.detach())).isfinite().all() for each in _floats(values)]
    return torch.stack([flag.to(flags[0].device) for flag in flags]).all() if flags else torch.tensor(True)


def _floats(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        if values.is_floating_point() and values.numel():
            yield values
    elif isinstance(values, (Mapping, list, tuple)):
        for each in values.values() if isinstance(values, Mapping) else values:
            yield from _floats(each)


def to_device(tensor: Tensor, like: Tensor | torch.device) -> Tensor:
    """Copy `tensor` to the device of `like`, and to its dtype if that is a tensor; the host never waits for a GPU.

    Host memory is pinned first, as a pageable copy waits for all queued work; a tensor with a gradient takes that copy.
    Raises `RuntimeError` while a CUDA graph is captured: it would read this memory again when it holds other numbers.
    """
    device, dtype = (like.device, like.dtype) if isinstance(like, Tensor) else (like, tensor.dtype)
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.requires_grad:
        return tensor.to(device, dtype)
    if torch.cuda.is_current_stream_capturing():
        raise RuntimeError("Expected numbers of the device while a CUDA graph is captured, but got some of the host.")
    return tensor.to(dtype).contiguous().pin_memory().to(device, non_blocking=True)


def first_rows(chosen: Bool[Tensor, " N"], room: int) -> tuple[Int[Tensor, " room"], Int[Tensor, " N"]]:
    """Return the rows that are chosen, the first `room` of them and then zeros, and how many are up to each row.

    A GPU is not waited for, as `torch.nonzero` waits for their number.
    """
    order = chosen.cumsum(0)
    places = (order - 1).masked_fill(~chosen, room).clamp(max=room)
    rows = torch.arange(len(chosen), device=chosen.device)
    return rows.new_zeros(room + 1).scatter_(0, places, rows)[:room], order


def spread_rows(count: Int[Tensor, ""], room: int) -> tuple[Int[Tensor, " room"], Bool[Tensor, " room"]]:
    """Return `count` row numbers in `room` places, in order, some of them again, and whether each is new there.

    Repeated rows are spread over all: many sums in one place take long. Of no row all are 0, and none is new.
    """
    rows = torch.arange(room, device=count.device) * count // room
    return rows, (rows.diff(prepend=rows.new_full((1,), -1)) > 0) & (count > 0)


def generator_on(device: torch.device, generator: torch.Generator) -> torch.Generator:
    """A generator of a device: the given one of the host, or a GPU's own with a seed from it.

    For a million numbers the host takes 10 to 20 ms, in which a GPU has nothing to do.
    """
    if device.type == "cpu":
        return generator
    return torch.Generator(device).manual_seed(int(torch.randint(2**62, (), generator=generator)))


def draw_on(
    device: torch.device, generator: torch.Generator, draw: Callable[..., Tensor], *shape: int
) -> Float[Tensor, "..."]:
    """Numbers of `torch.rand` or `torch.randn` on a device, by `generator_on`."""
    return draw(shape, generator=generator_on(device, generator), device=device)
