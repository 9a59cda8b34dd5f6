"""What is optimised: Adam over named parameter groups, whose learning rates may follow the steps."""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import torch
from torch import Tensor, nn


class ParameterGroup(TypedDict):
    """One named group of an optimizer of `torch.optim`."""

    name: str
    params: list[nn.Parameter]
    lr: float


class Trainable(nn.Module):
    """A module that says how it is optimised; `adam_eps` and `adam_betas` are Adam's constants."""

    adam_eps: float = 1e-8
    adam_betas: tuple[float, float] = (0.9, 0.999)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters in named groups, with their learning rates at step 0."""
        raise NotImplementedError

    def learning_rates(self, step: int) -> dict[str, float]:
        """Return the learning rates at `step` of the groups whose rates change."""
        return {}

    def build_optimizer(self) -> torch.optim.Adam:
        """Build Adam over `parameter_groups()`."""
        return build_adam(self.parameter_groups(), eps=self.adam_eps, betas=self.adam_betas)

    def update_learning_rate(self, optimizer: torch.optim.Optimizer, step: int) -> None:
        """Set `learning_rates` in the groups with their names; the others stay."""
        rates = self.learning_rates(step)
        for group in optimizer.param_groups:
            group["lr"] = rates.get(group.get("name", ""), group["lr"])


class Resizable(nn.Module):
    """A module that takes the sizes of its tensors from the state that it loads."""

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name, own in (*self.named_buffers(recurse=False), *self.named_parameters(recurse=False)):
            stored = state_dict.get(prefix + name)
            if isinstance(stored, Tensor) and stored.shape[1:][-1:] == own.shape[1:][-1:] and stored.dim() == own.dim():
                own.data = own.data.new_empty(stored.shape)
        super()._load_from_state_dict(state_dict, prefix, *args)


def build_adam(
    groups: Sequence[ParameterGroup], *, eps: float = 1e-8, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.Adam:
    """Build Adam over the groups. Parameters on a GPU get one fused kernel a group."""
    fused = all(parameter.is_cuda for group in groups for parameter in group["params"]) or None
    return torch.optim.Adam([dict(group) for group in groups], eps=eps, betas=betas, fused=fused)


def load_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load the moments that another device may have saved; the groups' settings stay as they are here.

    Raises `ValueError` if they do not fit the parameters.
    """
    groups = [
        {**group, "params": saved["params"], "lr": float(saved["lr"])}
        for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True)
    ]
    optimizer.load_state_dict({**state, "param_groups": groups})
    for parameter, moments in optimizer.state.items():
        fitting = all(isinstance(each, Tensor) and each.shape in (parameter.shape, ()) for each in moments.values())
        if not fitting or moments.get("step", 0) < 0:
            raise ValueError(f"moments that do not fit a parameter of {list(parameter.shape)}")
