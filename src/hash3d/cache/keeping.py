"""What a cache has besides the method: memory for its entries, a guard, an account, and a state that can be saved."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor

from .calls import Block, Entry, Query, View, open_view
from .grid import FIELDS

if TYPE_CHECKING:
    from .branches import Branches
    from .config import CacheConfig
    from .guard import Guard
    from .messages import AngleWatch

MANY_UNSEEN = 8
BATCH_CHECKS = 8
"""First calls whose branches are compared."""
MOST_ENTRIES = 2**20
"""A configuration that can fill more is without bound: nothing can be said of its memory."""


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
        """Count one guidance call that has run. A spot-checked view is a full one: what was found is not used."""
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
            from .messages import tell

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
        from .messages import summarize

        return summarize(self)


class Keeping:
    """The parts of `FeatureCache` that are not the method."""

    def __init__(self, config: "CacheConfig") -> None:
        self.config, self.store = config, config.build_store()
        self.cut, self.mode, self.reuse_probability = config.cut, config.mode, config.reuse_probability
        self.max_bytes = config.max_bytes
        self.statistics, self.step = CacheStatistics(), 0
        self.is_enabled = True
        """Whether calls are asked for at all: see `disable`."""
        self.random = random.Random(config.seed)
        self._angles: AngleWatch | None = None
        self.owner: Callable[[], Any] = lambda: None
        """The U-Net that it is on, by a weak reference."""
        self.weights: str | None = None
        """What tells the weights that its features are of, while it is on no U-Net."""
        self._signature: object = None
        self._layout: tuple[Any, ...] | None = None
        self._size = 0
        self._seen, self._unseen, self._restarts = dict[str, None](), 0, 0
        self._checks, self._told = 0, set[Any]()

    def _open(self, view: View) -> Block:
        """A block that opens a view; angles of a fraction of a degree may be radians."""
        if self._angles is None and any(place["azimuth"] % 1.0 for place in view.places):
            from .messages import AngleWatch

            self._angles = AngleWatch()
        if self._angles is not None:
            self._angles.see(view.places)
        return Block(self, view)

    def disable(self) -> None:
        """Let calls be the U-Net's own, in `view` blocks too, until `enable`; features stay."""
        self.is_enabled = False

    def enable(self) -> None:
        """Reuse again."""
        self.is_enabled = True

    @property
    def current_view(self) -> View | None:
        """The `view` block that this thread has open."""
        return open_view(self)

    @cached_property
    def branches(self) -> "Branches":
        """Guidance branches in calls of their own."""
        from .branches import Branches

        return Branches()

    @cached_property
    def guard(self) -> "Guard":
        """Spot checks, and a bound on their error."""
        from .guard import Guard

        return Guard(self.config.guard)

    def match(self, signature: object) -> None:
        """Start anew, memory included, if what all features depend on (weights, dtype, device, shapes) has changed."""
        anew = self._signature not in (None, signature)
        if anew:
            self.release()
        self._signature, self._restarts = signature, self._restarts + 1 if anew else 0
        if self._restarts == MANY_UNSEEN:
            self.tell_once("always anew")

    def release(self, *, loaded: bool = True) -> None:
        """Forget all features, and let their memory go; without `loaded` not those that wait for their first call."""
        if loaded or self._signature is not None:
            self.reset()
            self._layout = self._signature = None

    def check_batch(self, view: View, sample: Tensor, channels: int, timestep: Any = None) -> None:
        """Check a call's batch against its view; what differs is told as soon as it is known."""
        view.check_batch(sample, channels)
        loaded, form = self.store.entries()[:1] if self._signature is None else [], (*sample.shape[1:], view.branches)
        if any((*each.latents.shape, len(each.feature)) != form for each in loaded):
            self.reset()
        if self._checks < BATCH_CHECKS:
            self._checks += 1
            own, given = view.split(sample[:, :channels])[0].flatten(1), view.timesteps
            unlike = (own[:, None] == own).all(2).sum() == len(own)
            found = {"unlike branches": view.has_like_branches(sample, channels), "like views": unlike}
            if given and getattr(timestep, "is_cuda", False):
                found["unread timestep"] = (timestep > min(given) - 1.0).all() & (timestep < max(given) + 1.0).all()
            if sample.is_cuda:
                self._late.send(1.0 / torch.stack([*found.values()]).float(), [*found])  # Infinite if not.
            for what in [] if sample.is_cuda else [name for name, holds in found.items() if not holds]:
                self.tell_once(what)

    def tell_once(self, what: str, *numbers: int) -> None:
        """Tell one of `messages.MESSAGES`, unless it was told already."""
        if (what, numbers) not in self._told:
            from .messages import MESSAGES, tell

            self._told.add((what, numbers))
            tell(MESSAGES[what].format(*numbers))

    def identify(self, view: View, conditions: dict[str, Any], settings: str) -> list[str]:
        """The identity of each view's feature: see `View.identities`."""
        branch = 0 if view.scope is None else self.branches.number(view, conditions)
        identities = view.identities(conditions, settings, branch)
        if view.timesteps is not None and any(view.off_key):
            self.tell_once("other timestep")
        watched = identities if view.scope is None else [settings]
        self._unseen = 0 if any(each in self._seen for each in watched) else self._unseen + 1
        self._seen.update(dict.fromkeys(watched))
        if self._unseen == MANY_UNSEEN:
            self.tell_once("unseen" if view.scope is None else "changing settings")
        return identities

    def reset(self) -> None:
        """Forget all features, as after a change that no one can see (`parameter.data`). Statistics go on."""
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
            wanted, fitting = self.config.capacity(views), self.max_bytes // self._size
            if fitting < wanted <= MOST_ENTRIES:
                self.tell_once("little memory", self.max_bytes, fitting, self._size, wanted, wanted * self._size)
        return self._size

    def _are_finite(self, features: Float[Tensor, "S M ..."], entries: list[Entry]) -> list[bool]:
        """Whether each view's has no NaN and no infinity. On a GPU that of the entries is known later."""
        totals = features.sum((0, *range(2, features.ndim)), dtype=torch.float32)  # Other latents make no finite ones.
        if totals.is_cuda:
            self._late.send(totals, entries)
        return [True] * len(totals) if totals.is_cuda else list(map(self._see, totals.tolist()))

    def _see(self, total: float) -> bool:
        """Whether the sum of an entry is finite; the others are counted."""
        if not (finite := math.isfinite(total)):
            self.statistics.not_finite += 1
            self.tell_once("not finite")
        return finite

    def _drop_spoilt(self) -> None:
        """Forget entries of a GPU of which it has become known that they are not finite; waits for nothing."""
        if "_late" not in vars(self):
            return
        for found, labels in self._late.arrived():
            for total, label in zip(found, labels, strict=True):
                if not isinstance(label, str):
                    if not self._see(total) and label in self.store.entries():
                        self.store.remove(label)
                elif not math.isfinite(total):
                    self.tell_once(label)

    @cached_property
    def _late(self) -> Any:
        from .running import LateNumbers

        return LateNumbers()

    def read(self, queries: Sequence[Query], latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "S M ..."]:
        """The features of M views, each blended from its entries."""
        first = queries[0].entries[0]
        if first.latents.device != latents.device:  # Of a state that was loaded.
            self._prepare(latents[0], first.feature.to(latents.device), len(latents))
        squared = self.config.aggregation == "softmax_squared"
        from .blend import blend_entries

        with torch.no_grad():
            found = [blend_entries(latents[query.row], query.entries, squared) for query in queries]
            return torch.stack(found, dim=1)

    def check(self, reused: Float[Tensor, "S M C h w"], full: Float[Tensor, "S M C h w"]) -> None:
        """Compare the predictions of M views that were marked for a spot check."""
        for one, other in zip(reused.unbind(1), full.unbind(1), strict=True):
            self.guard.record(one, other)

    def summary(self) -> dict[str, Any]:
        """The run's account, as `summary.json` shows it."""
        held = {"bytes": self.store.num_bytes, "bytes_limit": self.max_bytes}
        return {**self.statistics.summary(), **held, "guard": self.guard.summary()}

    def __str__(self) -> str:
        from .messages import tabulate

        return tabulate(self)

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
