"""How kernels are compiled: the only file that imports numba."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import torch
from numba import prange, types
from numba.extending import overload
from torch import Tensor

__all__ = ["FAST", "FAST_SUMS", "Array", "kernel", "kernel_overload", "prange", "run", "types", "use_torch_threads"]

Array = np.ndarray[Any, Any]
Function = TypeVar("Function", bound=Callable[..., Any])

FAST = {"contract", "nsz", "arcp"}
"""Allows fused multiply-adds; keeps NaN, infinity and the order of sums."""
FAST_SUMS = FAST | {"reassoc"}
"""Lets a sum over pixels run in vector lanes."""


def kernel(*, parallel: bool = False, fastmath: set[str] | None = None) -> Callable[[Function], Function]:
    """Compile a function, without tests' wrappers, at its first call; kept on disk. x / 0 is infinite, for speed."""

    def compiled(function: Function) -> Function:
        jit = numba.njit(parallel=parallel, fastmath=fastmath or False, error_model="numpy", cache=True)
        result: Function = jit(inspect.unwrap(function))
        return result

    return compiled


def kernel_overload(target: Callable[..., Any], fastmath: set[str]) -> Callable[[Function], Function]:
    """Give `target` a compiled form for each type of argument; the decorated function chooses it from the type."""

    def registered(choose: Function) -> Function:
        overload(inspect.unwrap(target), jit_options={"fastmath": fastmath})(inspect.unwrap(choose))
        return choose

    return registered


def run(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a kernel that writes into its last arguments, on torch's threads, with tensors as arrays."""
    use_torch_threads()
    arrays = [each.detach().contiguous().numpy() if isinstance(each, Tensor) else each for each in arguments]
    function(*arrays)


def use_torch_threads() -> None:
    """Run kernels on as many threads as torch; starting numba's changes OpenMP's number, torch's: it is put back."""
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
