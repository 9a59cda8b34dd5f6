"""Measure the machine's roofline: its matmul and copy rates."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Measured, not looked up."""

    operations: float
    """Floating-point operations a second of a matmul."""
    bytes: float
    """Bytes a second that a copy reads and writes."""
    how: str
    """The product and the copy, in words."""


def measure_rates(device: torch.device, *, side: int | None = None, count: int | None = None) -> Rates:
    """The best of some products of random matrices, and of some copies between two blocks of memory.

    Args:
        device: a GPU multiplies half precision, a CPU float32.
        side: of the matrices; by default 8192 on a GPU and 1024 on a CPU.
        count: bytes copied; by default 2 GiB on a GPU and 128 MiB on a CPU, more than its caches hold.
    """
    on_gpu = device.type == "cuda"
    side, count = side or (8192 if on_gpu else 1024), count or (2**31 if on_gpu else 2**27)
    dtype = torch.float16 if on_gpu else torch.float32
    first, second = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = best_seconds(lambda: first @ second, device)
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    copy = best_seconds(lambda: target.copy_(source), device)
    how = f"{side}x{side} {str(dtype).removeprefix('torch.')} matrices; copies of {count / 2**20:,.0f} MiB"
    return Rates(operations=2.0 * side**3 / product, bytes=2.0 * count / copy, how=how)


def best_seconds(function: Callable[[], object], device: torch.device) -> float:
    """Time a call, after two that are not counted; the best of several."""
    return min(seconds_of(function, device, REPEATS, warm_up=2))


def seconds_of(function: Callable[[], object], device: torch.device, repeats: int, *, warm_up: int) -> list[float]:
    """Time each of `repeats` calls; on a GPU until it has done the work."""
    times = []
    for repeat in range(warm_up + repeats):
        finish(device)
        started = time.perf_counter()
        function()
        finish(device)
        if repeat >= warm_up:
            times.append(time.perf_counter() - started)
    return times


def finish(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
