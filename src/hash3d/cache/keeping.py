"""What a cache has besides the method: memory for its entries, a guard, an account, and a state that can be saved."""

import math
import random
import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cache, cached_property
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from .calls import AngleWatch, Entry, Query, View, open_view, opened
from .grid import FIELDS

if TYPE_CHECKING:
    from .config import CacheConfig
    from .guard import Guard

MANY_STRANGERS = 8
MOST_ENTRIES = 2**20
"""A configuration that can fill more is without bound: nothing can be said of its memory."""


def tell(message: str) -> None:
    """Warn at the caller's own line, outside this package and torch."""
    warnings.warn(message, stacklevel=4)


@dataclass(repr=False)
class CacheStatistics:
    """Counts over a run, per view. `print(cache.statistics)` says them in a line."""

    lookups: int = 0
    hits: int = 0
    full: int = 0
    """Views that ran the whole U-Net, spot-checked ones among them."""
    shallow: int = 0
    """Views that ran only the shallow layers (in noise mode: nothing)."""
    peak_bytes: int = 0
    not_finite: int = 0
    """Features that were not kept because of a NaN or an infinity."""
    bypassed: dict[str, int] = field(default_factory=dict)
    """Calls that ran in full without asking the cache, by reason."""
    gaps: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FIELDS, 0.0))
    """Sum over hits of the mean absolute gap of the entries used."""
    age: float = 0.0
    """Sum over hits of the mean age in steps of the entries used."""

    def record(self, queries: Sequence[Query], step: int) -> None:
        """Count one guidance call. A spot-checked view is a full one: what was found is not used."""
        for query in queries:
            self.lookups += query.tried
            self.hits += query.reuses
            self.shallow += query.reuses
            self.full += not query.reuses
            if query.reuses:
                gaps, count = [query.key.gaps(entry.key) for entry in query.entries], len(query.entries)
                for name in FIELDS:
                    self.gaps[name] += sum(each[name] for each in gaps) / count
                self.age += sum(step - entry.step for entry in query.entries) / count

    def bypass(self, reason: str, advice: str) -> None:
        """Count a call that ran in full without asking the cache; the first of its reason is told."""
        self.bypassed[reason] = self.bypassed.get(reason, 0) + 1
        if self.bypassed[reason] == 1:
            tell(f"A U-Net call ran in full, without the cache: {reason}. {advice}")

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
            "bypassed": dict(self.bypassed),
            "not_finite": self.not_finite,
        }

    def __repr__(self) -> str:
        summary = self.summary()
        gaps = ", ".join(f"{name} {gap:.3g}" for name, gap in summary["mean_gap"].items())
        bypassed = "".join(f"; {count} calls bypassed: {reason}" for reason, count in self.bypassed.items())
        return (
            f"{self.hits} hits of {self.lookups} lookups; {self.shallow} of {self.full + self.shallow} passes reused a "
            f"feature ({self.reuse_share:.1%}); mean gap: {gaps}; mean age: {summary['mean_age_steps']:.3g} steps"
            f"{bypassed}{f'; {self.not_finite} features were not finite' if self.not_finite else ''}"
        )


class Keeping:
    """The parts of `FeatureCache` that are not the method."""

    def __init__(self, config: "CacheConfig") -> None:
        self.config, self.store = config, config.build_store()
        self.cut, self.mode, self.reuse_probability = config.cut, config.mode, config.reuse_probability
        self.max_bytes = config.max_bytes
        self.statistics, self.step = CacheStatistics(), 0
        self.random = random.Random(config.seed)
        self._angles = AngleWatch()
        self.owner: int | None = None
        """The id of the U-Net that it is on."""
        self._signature: object = None
        self._layout: tuple[Any, ...] | None = None
        self._size = 0
        self._seen, self._strangers = dict[str, None](), 0

    def _open(self, view: View) -> AbstractContextManager[None]:
        """Open a view, and look whether its angles are degrees."""
        self._angles.see(view.places)
        return opened(self, view)

    @property
    def current_view(self) -> View | None:
        """The `view` block that this thread has open."""
        return open_view(self)

    @cached_property
    def guard(self) -> "Guard":
        """Spot checks, and a bound on their error."""
        from .guard import Guard

        return Guard(self.config.guard)

    def match(self, signature: object) -> None:
        """Start anew, memory included, if what all features depend on (weights, dtype, device, shapes) has changed."""
        if self._signature not in (None, signature):
            self.release()
        self._signature = signature

    def release(self) -> None:
        """Forget all features, and let their memory go."""
        self.reset()
        self._layout = self._signature = None

    def identify(self, view: View, conditions: dict[str, Any], settings: str) -> list[str]:
        """The identity of each view's feature: see `View.identities`."""
        identities = view.identities(conditions, settings)
        if view.scope is None:
            self._strangers = 0 if any(own in self._seen for own in identities) else self._strangers + 1
            self._seen.update(dict.fromkeys(identities))
            if self._strangers == MANY_STRANGERS:
                tell(
                    f"The conditioning inputs of the last {MANY_STRANGERS} U-Net calls were never seen before, so that "
                    "no feature could be reused. Keep the embeddings in one tensor, or say in cache.view(scope=...) "
                    "what they depend on besides the view, such as the prompt."
                )
        return identities

    def reset(self) -> None:
        """Forget all features. Statistics go on."""
        self.store.clear()

    def _prepare(self, latents: Tensor, feature: Tensor, views: int) -> int:
        """Forget entries of another layout than these; move those of a loaded state here. Returns the bytes of one."""
        layout = (latents.shape, latents.dtype, feature.shape, feature.dtype, latents.device)
        if layout != self._layout:
            held = self.store.entries()
            if held and (self._layout or (held[0].latents.shape, held[0].feature.shape) != (layout[0], layout[2])):
                self.reset()
            self._layout, self._size = layout, latents.nbytes + feature.nbytes
            for entry in self.store.entries():
                entry.latents, entry.feature = entry.latents.to(latents.device), entry.feature.to(latents.device)
            self._warn_of_little_memory(views)
        return self._size

    def _warn_of_little_memory(self, views: int) -> None:
        """Say it if the byte budget holds fewer entries than the configuration lets come together."""
        wanted, fitting = self.config.capacity(views), self.max_bytes // self._size
        if fitting < wanted <= MOST_ENTRIES:
            tell(
                f"max_bytes={self.max_bytes} holds {fitting} entries of {self._size} bytes, but this configuration can "
                f"fill {wanted}: the oldest leave early. Set max_bytes to {wanted * self._size}."
            )

    def _is_finite(self, entry: Entry) -> bool:
        """Whether an entry has no NaN and no infinity. On a GPU that is known later: `_drop_spoilt`."""
        total = entry.latents.sum(dtype=torch.float32) + entry.feature.sum(dtype=torch.float32)
        if total.is_cuda:
            self._late.send(total, entry)
            return True
        finite = bool(total.isfinite())
        if not finite:
            self._count_not_finite()
        return finite

    def _drop_spoilt(self) -> None:
        """Forget entries of a GPU of which it has become known that they are not finite; waits for nothing."""
        if "_late" not in vars(self):
            return
        for total, entry in self._late.arrived():
            if not math.isfinite(total):
                self._count_not_finite()
                if entry in self.store.entries():
                    self.store.remove(entry)

    def _count_not_finite(self) -> None:
        self.statistics.not_finite += 1
        if self.statistics.not_finite == 1:
            tell("A U-Net pass gave NaN or infinity, such as an overflow in half precision; its feature is not kept.")

    @cached_property
    def _late(self) -> Any:
        from .running import LateNumbers

        return LateNumbers()

    def read(self, queries: Sequence[Query], latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "S M ..."]:
        """The features of M views, each blended from its entries; to be read before the next `insert`.

        On a GPU with Triton two kernels do it for all views at once. Nothing waits for the GPU.
        """
        first = queries[0].entries[0]
        if first.latents.device != latents.device:  # Of a state that was loaded.
            self._prepare(latents[0], first.feature.to(latents.device), len(latents))
        squared = self.config.aggregation == "softmax_squared"
        rows, found = [latents[query.row] for query in queries], [query.entries for query in queries]
        if latents.is_cuda and not squared and has_triton():
            from . import _triton_read

            if _triton_read.fits(found):
                return _triton_read.read(rows, found)
        from .blend import blend_entries

        with torch.no_grad():
            return torch.stack([blend_entries(*view, squared) for view in zip(rows, found, strict=True)], dim=1)

    def check(self, reused: Float[Tensor, "S M C h w"], full: Float[Tensor, "S M C h w"]) -> None:
        """Compare the predictions of M views that were marked for a spot check."""
        for one, other in zip(reused.unbind(1), full.unbind(1), strict=True):
            self.guard.record(one, other)

    def summary(self) -> dict[str, Any]:
        """The run's account, as `summary.json` shows it."""
        held = {"bytes": self.store.num_bytes, "bytes_limit": self.max_bytes}
        return {**self.statistics.summary(), **held, "guard": self.guard.summary()}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if it had not stopped: tensors and plain values."""
        from .state import save

        return save(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state; the next call says which weights, shapes and device it belongs to.

        Raises:
            ValueError: it was saved by another version.
        """
        from .state import load

        load(self, state)


@cache
def has_triton() -> bool:
    """Whether the package is there."""
    return find_spec("triton") is not None
