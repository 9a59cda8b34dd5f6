"""Weights that were written behind PyTorch's back, such as through `parameter.data`: seen by their numbers."""

import torch
from torch import Tensor

from hash3d.cache.messages import MESSAGES, tell
from hash3d.cache.running import LateNumbers

NEAR = 3e-8
"""Relative difference of two sums of norms of the same weights, added up in another order."""


class WeightSums:
    """Compares the sum of the norms of the weights on a GPU with the one before, a call or so later: nothing waits."""

    def __init__(self, parameters: list[Tensor]) -> None:
        here = parameters[0].device
        self._parameters: list[Tensor] = [p for p in parameters if p.device == here and p.is_floating_point()]
        self._late = LateNumbers()
        self._before: float | None = None

    @torch.no_grad()
    def look(self, *, due: bool, forget: bool) -> bool:
        """Whether a sum that has arrived differs; `due` starts one, `forget` takes what comes next for granted."""
        if not self._parameters[0].is_cuda or torch.cuda.is_current_stream_capturing():
            return False
        if forget:
            self._late.clear()
            self._before = None
        changed = False
        for total, _ in self._late.arrived():
            changed |= self._before not in (None, total) and abs(total / (self._before or 1.0) - 1.0) > NEAR
            self._before = total
        if changed:
            tell(MESSAGES["written"])
        if due or forget:
            norms = torch._foreach_norm(self._parameters, 2, dtype=torch.float32)
            self._late.send(torch.stack(norms).double().sum())
        return changed
