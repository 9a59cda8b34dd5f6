"""One diffusion model for several runs: each has modules of its own, for its hooks, around the same weights."""

import copy
from typing import TypeVar

import torch
from torch import nn

ModuleT = TypeVar("ModuleT", bound=nn.Module)


def with_shared_weights(module: ModuleT) -> ModuleT:
    """A copy of a module whose parameters and buffers lie in the same memory.

    The parameters are objects of their own: a copy that lays its weights out anew leaves the others as they are.
    """
    memo: dict[int, object] = {id(buffer): buffer.detach() for buffer in module.buffers()}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, memo)


def num_bytes(module: nn.Module, besides: nn.Module | None = None) -> int:
    """Bytes of a module's weights; of `besides` those that lie in the same memory are left out."""
    known = set() if besides is None else {tensor.data_ptr() for tensor in _weights(besides)}
    return sum(tensor.numel() * tensor.element_size() for tensor in _weights(module) if tensor.data_ptr() not in known)


def _weights(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]


class MemoryAccount:
    """The peak of one run among others in a process, as if it were alone: by PyTorch's allocator on a GPU, else None.

    What it holds from block to block is what memory in use has grown by in its own blocks, with the pools of its CUDA
    graphs; to that comes the most that a block took beyond its start.
    """

    def __init__(self, device: torch.device) -> None:
        self._on_gpu = device.type == "cuda"
        self._held = self._start = 0
        self._above = 0

    def begin(self) -> None:
        """A block of this run begins."""
        if self._on_gpu:
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._start, self._at_start = torch.cuda.memory_allocated(), _in_use()

    def end(self) -> None:
        """It ends."""
        if self._on_gpu:
            torch.cuda.synchronize()
            most = self._held + torch.cuda.max_memory_allocated() - self._start
            self._held += _in_use() - self._at_start
            self._above = max(self._above, most, self._held)

    def peak(self, weights: int) -> int | None:
        """The most bytes in use, with `weights` bytes of what is shared with other runs."""
        return self._above + weights if self._on_gpu else None


def _in_use() -> int:
    """Bytes of tensors, and those that CUDA graphs keep for theirs."""
    graphs = sum(
        segment["total_size"] - segment["allocated_size"]
        for segment in torch.cuda.memory_snapshot()
        if tuple(segment.get("segment_pool_id", (0, 0))) != (0, 0)
    )
    return torch.cuda.memory_allocated() + graphs
