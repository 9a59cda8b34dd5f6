"""What a cache did: counts, and how far the used entries were from the queries."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .grid import FIELDS, Key
from .store import Found


@dataclass
class CacheStatistics:
    """Counts over a run, per view."""

    lookups: int = 0
    hits: int = 0
    full: int = 0
    """Views that ran the whole U-Net, audited ones among them."""
    shallow: int = 0
    """Views that ran only the shallow layers (in noise mode: nothing)."""
    peak_bytes: int = 0
    gaps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0.0))
    """Sum over hits of the mean absolute gap of the entries used."""
    age: float = 0.0
    """Sum over hits of the mean age in steps of the entries used."""

    def record(self, keys: Sequence[Key], tries: Sequence[bool], found: Sequence[Found | None], step: int) -> None:
        """Count one guidance call. An audited view is a full one: what was found is not used."""
        self.lookups += sum(tries)
        for key, item in zip(keys, found, strict=True):
            if item is None or item.audit:
                self.full += 1
                continue
            self.hits += 1
            self.shallow += 1
            used = item.entries
            gaps = zip(*(key.gaps(entry.key) for entry in used), strict=True)
            for name, gaps_of_field in zip(FIELDS, gaps, strict=True):
                self.gaps[name] += sum(gaps_of_field) / len(used)
            self.age += sum(step - entry.step for entry in used) / len(used)

    @property
    def reuse_share(self) -> float:
        """Shallow passes over all passes."""
        return self.shallow / max(self.full + self.shallow, 1)

    def summary(self) -> dict[str, Any]:
        """Counts and means as plain numbers."""
        hits = max(self.hits, 1)
        return {
            "lookups": self.lookups,
            "hits": self.hits,
            "peak_bytes": self.peak_bytes,
            "mean_gap": {name: total / hits for name, total in self.gaps.items()},
            "mean_age_steps": self.age / hits,
        }

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "CacheStatistics":
        """The inverse of `state_dict`."""
        return cls(**state)
