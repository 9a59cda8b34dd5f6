"""Adam over named parameter groups, whose learning rates a schedule may set."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import nn


class ParameterGroup(TypedDict):
    """One named group of an optimizer of `torch.optim`."""

    name: str
    params: list[nn.Parameter]
    lr: float


def build_adam(
    groups: Sequence[ParameterGroup], *, eps: float = 1e-8, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Build Adam over the groups; the defaults are PyTorch's. Parameters on a GPU get one fused kernel a group."""
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"]) or None
    return torch.optim.Adam([dict(group) for group in groups], eps=eps, betas=betas, fused=fused)


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load a state that another device may have saved; whether kernels are fused stays as it is here."""
    groups = [
        {**saved, "fused": group.get("fused")}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})


def set_learning_rates(optimizer: torch.optim.Optimizer, rates: Mapping[str, float]) -> None:
    """Set the learning rates of the groups with these names; the others stay."""
    for group in optimizer.param_groups:
        group["lr"] = rates.get(group.get("name", ""), group["lr"])
