"""How kernels are compiled: the only file that imports numba."""

import inspect
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import numba
import numpy as np
import torch
from numba import types
from numba.extending import overload
from torch import Tensor

__all__ = ["FAST", "FAST_SUMS", "Array", "kernel", "kernel_overload", "parallel_kernel", "run", "types"]

Array = np.ndarray[Any, Any]
Function = TypeVar("Function", bound=Callable[..., Any])
Arguments = ParamSpec("Arguments")

FAST = {"contract", "nsz", "arcp"}
"""Allows fused multiply-adds; keeps NaN, infinity and the order of sums."""
FAST_SUMS = FAST | {"reassoc"}
"""Lets a sum over pixels run in vector lanes."""


def kernel(*, fastmath: set[str] | None = None) -> Callable[[Function], Function]:
    """Compile a function, without tests' wrappers, at its first call; kept on disk. x / 0 is infinite, for speed."""

    def compiled(function: Function) -> Function:
        jit = numba.njit(nogil=True, fastmath=fastmath or False, error_model="numpy", cache=True)
        result: Function = jit(inspect.unwrap(function))
        return result

    return compiled


def parallel_kernel(
    *, fastmath: set[str] | None = None
) -> Callable[[Callable[Concatenate[int, int, Arguments], None]], Callable[Arguments, None]]:
    """Compile a function of a thread's number, how many there are, and arguments; calls give the arguments alone.

    Each of as many threads as torch has takes its share of the work. What numba has for it, `parallel=True`, compiles
    in more than twice the time.
    """

    def shared_out(function: Callable[Concatenate[int, int, Arguments], None]) -> Callable[Arguments, None]:
        compiled = kernel(fastmath=fastmath)(function)

        @wraps(function)
        def call(*given: Arguments.args, **named: Arguments.kwargs) -> None:
            count = torch.get_num_threads()
            pool = _threads(os.getpid(), count)
            others = [pool.submit(compiled, thread, count, *given, **named) for thread in range(1, count)]
            compiled(0, count, *given, **named)
            for each in others:
                each.result()

        return call

    return shared_out


@cache
def _threads(process: int, count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, f"hash3d-{process}")


def kernel_overload(target: Callable[..., Any], fastmath: set[str]) -> Callable[[Function], Function]:
    """Give `target` a compiled form for each type of argument; the decorated function chooses it from the type."""

    def registered(choose: Function) -> Function:
        overload(inspect.unwrap(target), jit_options={"fastmath": fastmath})(inspect.unwrap(choose))
        return choose

    return registered


def run(function: Callable[..., Any], *arguments: Any) -> None:
    """Call a kernel that writes into its last arguments, with tensors as arrays."""
    arrays = [each.detach().contiguous().numpy() if isinstance(each, Tensor) else each for each in arguments]
    function(*arrays)
