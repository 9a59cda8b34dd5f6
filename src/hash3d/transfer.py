"""Copy from the host to a device without waiting for it."""

import torch
from torch import Tensor


def to_device(tensor: Tensor, like: Tensor | torch.device) -> Tensor:
    """Copy `tensor` to the device of `like`, and to its dtype if that is a tensor; the host never waits for a GPU.

    Host memory is pinned first, as a pageable copy waits for all queued work; a tensor with a gradient takes that copy.
    """
    device, dtype = (like.device, like.dtype) if isinstance(like, Tensor) else (like, tensor.dtype)
    if device.type != "cuda" or tensor.device.type != "cpu" or tensor.requires_grad:
        return tensor.to(device, dtype)
    return tensor.to(dtype).contiguous().pin_memory().to(device, non_blocking=True)
