"""One diffusion model for several runs: each has modules of its own, for its hooks, around the same weights."""

import copy
from typing import TypeVar

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
