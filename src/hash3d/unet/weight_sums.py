"""Weights that were written behind PyTorch's back, such as through `parameter.data`: seen by their numbers."""

import torch
from torch import Tensor

from hash3d.cache.messages import MESSAGES, tell
from hash3d.cache.running import LateNumbers

PARTS, PAUSE = 16, 16
"""A look reads one in `PARTS` of the weights, every `PAUSE` calls."""
NEAR = 3e-8
"""Relative difference of two sums of norms of the same weights, added up in another order."""


class WeightSums:
    """Compares sums of the norms of weights on a GPU with those before, a call or so later: nothing waits."""

    def __init__(self, parameters: list[Tensor]) -> None:
        here = parameters[0].device
        found = [each for each in parameters if each.device == here and each.is_floating_point()]
        self._parts = [part for part in (found[start::PARTS] for start in range(PARTS)) if part]
        self._late, self._before, self._calls = LateNumbers(), dict[int, float](), -1

    @torch.no_grad()
    def look(self, *, due: bool = False, forget: bool = False) -> bool:
        """Whether a sum that has arrived differs; `due` starts all, `forget` takes what comes next for granted."""
        if forget:
            self._late.clear()
            self._before.clear()
            self._calls = -1
            return False
        self._calls += 1
        changed = False
        for total, number in self._late.arrived():
            before = self._before.get(number, total)
            changed |= before != total and abs(total / (before or 1.0) - 1.0) > NEAR
            self._before[number] = total
        if changed:
            tell(MESSAGES["written"])
        turn, pause = divmod(self._calls, PAUSE)
        chosen = range(len(self._parts)) if due or not self._calls else [turn % len(self._parts)]
        for number in chosen if due or not pause else ():
            norms = torch._foreach_norm(self._parts[number], 2, dtype=torch.float32)
            self._late.send(torch.stack(norms).double().sum(), number)
        return changed
