"""The moving average of a model's weights, which is what a prior's folder holds."""

import torch
from torch import nn


class Average:
    """An exponential moving average of a module's parameters."""

    def __init__(self, module: nn.Module, decay: float = 0.9985) -> None:
        self.decay, self.steps = decay, 0
        self.values = [parameter.detach().clone() for parameter in module.parameters()]

    def update(self, module: nn.Module) -> None:
        """Takes a step towards the parameters; the first steps are larger."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(self.values, [parameter.detach() for parameter in module.parameters()], 1 - decay)

    def swap(self, module: nn.Module) -> None:
        """Exchanges the average and the parameters; twice changes nothing."""
        for value, parameter in zip(self.values, module.parameters(), strict=True):
            kept = parameter.data.clone()
            parameter.data.copy_(value)
            value.copy_(kept)
