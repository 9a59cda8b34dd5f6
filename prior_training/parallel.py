"""The few collective operations that training on several GPUs needs. Without `torchrun` each does nothing."""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn


def start() -> tuple[int, int, torch.device]:
    """Rank of this process, the count of processes, and its device; joins the group when started by `torchrun`."""
    rank, count = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return 0, 1, torch.device("cpu")
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(device)
    if count > 1:
        dist.init_process_group("nccl", device_id=device)
    return rank, count, device


def stop() -> None:
    """Leaves the group."""
    if dist.is_initialized():
        dist.destroy_process_group()


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replaces every gradient by its mean over the processes."""
    if not dist.is_initialized():
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat, op=dist.ReduceOp.AVG)
    pieces = flat.split([gradient.numel() for gradient in gradients])
    torch._foreach_copy_(
        gradients, [piece.view_as(gradient) for piece, gradient in zip(pieces, gradients, strict=True)]
    )


def agree(value: float, device: torch.device) -> float:
    """The first process's value, in all processes."""
    if not dist.is_initialized():
        return value
    shared = torch.tensor(value, dtype=torch.float64, device=device)
    dist.broadcast(shared, 0)
    return float(shared)


def synchronise(module: nn.Module) -> None:
    """The first process's parameters and buffers, in all processes."""
    if dist.is_initialized():
        for tensor in [*module.parameters(), *module.buffers()]:
            dist.broadcast(tensor.data, 0)


def is_main() -> bool:
    """Whether this is the first process."""
    return not dist.is_initialized() or dist.get_rank() == 0
