"""Seconds of calls, on a CPU or a GPU."""

import time
from collections.abc import Callable

import torch


def seconds_of(function: Callable[[], object], device: torch.device, repeats: int, *, warm_up: int) -> list[float]:
    """Time each of `repeats` calls; on a GPU until it has done the work."""
    times = []
    for repeat in range(warm_up + repeats):
        _finish(device)
        started = time.perf_counter()
        function()
        _finish(device)
        if repeat >= warm_up:
            times.append(time.perf_counter() - started)
    return times


def _finish(device: torch.device) -> None:
    """Wait for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
