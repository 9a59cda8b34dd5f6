"""The quality guard: audits of reuse, and a bound on their error that switches reuse off and on."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .running import RunningMean
from .store import Found


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """How reuse is watched. By default it is not."""

    warm_up: int = 0
    """Guidance calls at the start that run in full: a scene that is still a fog changes faster than features keep."""
    audit_every: int | None = None
    """Every so many hits one is audited: the view runs in full too, and the difference is recorded. An audit costs a
    full pass (and its prediction is used), so 20 takes about 5 % of the reuse away. None: no audits."""
    max_error: float | None = None
    """Relative error of the prediction (running mean over audits) above which reuse is off; audits go on, and when
    they are below it again reuse is on. Needs `audit_every`. None: never off."""
    memory: float = 0.7
    """Of the running mean: 0 is the last audit alone."""

    def __post_init__(self) -> None:
        if self.warm_up < 0:
            raise ValueError(f"Expected a warm-up of at least 0 calls, but got {self.warm_up}.")
        if self.audit_every is not None and self.audit_every < 1:
            raise ValueError(f"Expected audit_every to be at least 1, but got {self.audit_every}.")
        if self.max_error is not None and (self.max_error <= 0.0 or self.audit_every is None):
            raise ValueError(
                f"Expected max_error above 0 and with audits, but got {self.max_error} and "
                f"audit_every={self.audit_every}. Set audit_every, say to 20."
            )
        if not 0.0 <= self.memory < 1.0:
            raise ValueError(f"Expected memory to be at least 0.0 and less than 1.0, but got {self.memory}.")

    def build(self) -> "Guard":
        """A guard that has seen nothing."""
        return Guard(self)


class Guard:
    """Lets a found feature pass, marks it for an audit, or holds it back."""

    def __init__(self, config: GuardConfig) -> None:
        self.config = config
        self._errors = RunningMean(config.memory)
        self._hits = self._audits = self._held_back = 0

    @property
    def reusing(self) -> bool:
        """Whether reuse is on: no bound, no audit yet, or the running error is within the bound."""
        if self.config.max_error is None:
            return True
        error = self.error
        return error is None or error <= self.config.max_error

    def warm(self, step: int) -> bool:
        """Whether the warm-up is over at guidance call `step`, counted from 1."""
        return step > self.config.warm_up

    def admit(self, found: Found | None) -> Found | None:
        """What is to be done with what a lookup found: reuse it, audit it, or nothing."""
        if found is None:
            return None
        self._hits += 1
        if self.config.audit_every is not None and self._hits % self.config.audit_every == 0:
            return replace(found, audit=True)
        if self.reusing:
            return found
        self._held_back += 1
        return None

    @torch.no_grad()
    def record(self, reused: Float[Tensor, "S ..."], full: Float[Tensor, "S ..."]) -> None:
        """Take in one audit: ||reused - full|| / ||full|| of one view's predictions, all branches together."""
        self._audits += 1
        difference, size = ((reused - full).float().norm(), full.float().norm())
        self._errors.add(difference / size)

    @property
    def error(self) -> float | None:
        """The running error of the audits; None before the first."""
        return self._errors.read()

    def summary(self) -> dict[str, Any]:
        """Audits, their mean relative error, and the views that ran in full because reuse was off."""
        return {"audits": self._audits, "mean_error": self._errors.mean, "held_back": self._held_back}

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        counts = {"hits": self._hits, "audits": self._audits, "held_back": self._held_back}
        return {"errors": self._errors.state_dict(), **counts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._errors.load_state_dict(state["errors"])
        self._hits, self._audits, self._held_back = state["hits"], state["audits"], state["held_back"]
