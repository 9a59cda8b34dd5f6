"""The optimizer that every representation has: Adam over named groups, whose rates a schedule may set."""

from collections.abc import Mapping, Sequence
from typing import TypedDict

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
    """Adam over the groups; the defaults are PyTorch's."""
    return torch.optim.Adam([dict(group) for group in groups], eps=eps, betas=betas)


def set_learning_rates(optimizer: torch.optim.Optimizer, rates: Mapping[str, float]) -> None:
    """Set the rates of the groups with these names; the others stay."""
    for group in optimizer.param_groups:
        group["lr"] = rates.get(group.get("name", ""), group["lr"])
