"""The quality guard: spot checks of reuse, and a bound on their error that switches reuse off and on."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .calls import Query
from .config import GuardConfig
from .running import RunningMean


class Guard:
    """Lets a found feature pass, marks it for a spot check, or holds it back."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self._errors = RunningMean(config.memory)
        self._hits = self._checks = self._held_back = 0

    @property
    def reusing(self) -> bool:
        """Whether reuse is on: no bound, no check yet, or the running error is within the bound."""
        if self.config.max_error is None:
            return True
        error = self.error
        return error is None or error <= self.config.max_error

    def admit(self, queries: Sequence[Query], together: bool) -> None:
        """Mark every `audit_every`-th hit for a spot check, with all of its call if `together`, or hold hits back."""
        hits, every = [query for query in queries if query.entries], self.config.audit_every
        assert every is not None
        for query in hits:
            self._hits += 1
            query.spot_check = self._hits % every == 0
        checked = any(query.spot_check for query in hits)
        for query in hits:
            if together and checked:
                query.spot_check = True
            elif not query.spot_check and not self.reusing:
                self._held_back += 1
                query.entries = ()

    @torch.no_grad()
    def record(self, reused: Float[Tensor, "S ..."], full: Float[Tensor, "S ..."]) -> None:
        """Take in one spot check: ||reused - full|| / ||full|| of one view's predictions, all branches together."""
        self._checks += 1
        difference, size = ((reused - full).float().norm(), full.float().norm())
        self._errors.add(difference / size)

    @property
    def error(self) -> float | None:
        """The running error of the spot checks; None before the first."""
        return self._errors.read()

    def summary(self) -> dict[str, Any]:
        """Spot checks, their mean relative error, and the views that ran in full because reuse was off."""
        return {"audits": self._checks, "mean_error": self._errors.mean, "held_back": self._held_back}

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        counts = {"hits": self._hits, "audits": self._checks, "held_back": self._held_back}
        return {"errors": self._errors.state_dict(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._errors.load_state_dict(state["errors"])
        self._hits, self._checks, self._held_back = (int(state[name]) for name in ("hits", "audits", "held_back"))
