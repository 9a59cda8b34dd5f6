"""Which code works on a field or a mesh: the PyTorch definition, or the Triton kernels that stand beside it."""

from typing import Literal

import torch
from torch import Tensor

from hash3d.kernels import has_triton

FieldBackend = Literal["auto", "torch", "triton"]


def uses_triton(backend: FieldBackend, like: Tensor) -> bool:
    """Whether Triton's kernels, which know float32 on CUDA alone, do the work on tensors such as `like`.

    auto: wherever they can and Triton is installed. An explicit choice that cannot run is an error.
    """
    able = like.is_cuda and like.dtype == torch.float32
    if backend == "triton" and not able:
        raise ValueError(
            f"The backend 'triton' needs float32 on cuda, but got {like.dtype} on {like.device}. Move the tensors, or "
            f"choose the backend 'auto'."
        )
    return backend == "triton" or (backend == "auto" and able and has_triton())


def require_last_derivative(of: str) -> None:
    """Called in a backward pass that is not differentiable itself: raise if autograd records it (create_graph).

    `torch.autograd.function.once_differentiable` would leave saved tensors out of the graph in silence.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"Expected no further derivative of {of}: Triton's kernels have none. Choose the field's and the "
            f"renderer's backend 'torch', or leave out create_graph."
        )
