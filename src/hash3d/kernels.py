"""Choose between PyTorch's reference implementations, numba's kernels and Triton's; import optional packages."""

import sys
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

FieldBackend = Literal["auto", "torch", "triton"]
"""What computes a field's features and rays: the reference implementation in PyTorch, or kernels, by Triton on CUDA.
auto: kernels where there are any; on a CPU numba's."""
NUMBA_DTYPES = (torch.float32, torch.float64)


@cache
def has_triton() -> bool:
    """Whether Triton is installed."""
    return find_spec("triton") is not None


def import_extra(name: str, extra: str, purpose: str) -> Any:
    """Import a module of an extra. Raises `ImportError` that says which command installs it, if it is missing."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0].replace("_", "-")
        command = f'{sys.executable} -m pip install "hash3d[{extra}]"'
        raise ImportError(f"Expected {package} for {purpose}, but it is missing. Run {command}") from error


def uses_triton(backend: FieldBackend, like: Tensor) -> bool:
    """Whether Triton's kernels (float32 on CUDA) work on such tensors; `ValueError` if an explicit choice cannot."""
    able = like.is_cuda and like.dtype == torch.float32
    if backend == "triton" and not able:
        raise ValueError(
            f"The backend 'triton' needs float32 on cuda, but got {like.dtype} on {like.device}. Move the tensors, or "
            f"choose the backend 'auto'."
        )
    return backend == "triton" or (backend == "auto" and able and has_triton())


def find_kernels(backend: FieldBackend, package: str, name: str, *tensors: Tensor) -> ModuleType | None:
    """Import `_triton_name` of a package, or on a CPU `_numba_name`, if it works on all tensors; else None: PyTorch."""
    if all(uses_triton(backend, each) for each in tensors):
        return import_module(f"{package}._triton_{name}")
    like = tensors[0]
    able = like.dtype in NUMBA_DTYPES and all(each.is_cpu and each.dtype == like.dtype for each in tensors)
    return import_module(f"{package}._numba_{name}") if backend == "auto" and able else None


def require_last_derivative(what: str) -> None:
    """Raise in the backward pass of a backward pass (create_graph); `once_differentiable` would be wrong in silence."""
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"Expected no further derivative of {what}: the kernels have none. Choose the field's and the "
            f"renderer's backend 'torch', or leave out create_graph."
        )
