"""How kernels are compiled: the only file that imports numba."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from numba import prange, types
from numba.extending import overload

__all__ = ["FAST", "FAST_SUMS", "Array", "kernel", "kernel_overload", "prange", "types", "use_torch_threads"]

Array = np.ndarray[Any, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

FAST = {"contract", "nsz", "arcp"}
"""Allows fused multiply-adds; keeps NaN, infinity and the order of sums."""
FAST_SUMS = FAST | {"reassoc"}
"""Lets a sum over pixels run in vector lanes."""


def kernel(*, parallel: bool = False, fastmath: set[str] | None = None) -> Callable[[Function], Function]:
    """Compile a function at its first call and keep the machine code on disk.

    Wrappers that check types in tests are taken off first. Division by zero gives infinity, as in numpy: raising would
    keep loops from becoming vector instructions.
    """

    def compiled(function: Function) -> Function:
        plain = inspect.unwrap(function)
        jit = numba.njit(parallel=parallel, fastmath=fastmath or False, error_model="numpy", cache=True)
        result: Function = jit(plain)
        return result

    return compiled


def kernel_overload(target: Callable[..., Any], fastmath: set[str]) -> Callable[[Function], Function]:
    """Give `target` a compiled form for each type of argument; the decorated function chooses it from the type."""

    def registered(choose: Function) -> Function:
        overload(inspect.unwrap(target), jit_options={"fastmath": fastmath})(inspect.unwrap(choose))
        return choose

    return registered


def use_torch_threads() -> None:
    """Run kernels on as many threads as torch does.

    When numba starts its threads it changes OpenMP's number of threads, which is torch's too: it is put back.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
