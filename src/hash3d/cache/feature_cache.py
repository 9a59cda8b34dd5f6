"""When to reuse a feature, and the account of it. The hook in `hash3d.diffusion.hook` asks; this answers."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from .grid import Key
from .guard import Guard, GuardConfig
from .statistics import CacheStatistics
from .store import Entry, Found, Store

Mode = Literal["feature", "noise"]
Numbers = float | Sequence[float] | Tensor
_UNKNOWN = object()
"""What a cache that has seen no call yet takes its scope and signature for."""


class FeatureCache:
    """Decides for each view of a guidance call whether an earlier feature serves, and keeps what full passes compute.

    It draws from a generator of its own: switching the cache on or off changes no camera and no noise of a run.
    """

    def __init__(
        self,
        store: Store,
        *,
        cut: int,
        mode: Mode,
        reuse_probability: float,
        whole_batch: bool,
        max_age: int | None,
        max_bytes: int,
        seed: int,
        guard: Guard | None = None,
    ) -> None:
        self.store = store
        self.guard = guard or GuardConfig().build()
        self.cut, self.mode = cut, mode
        self.reuse_probability, self.whole_batch = reuse_probability, whole_batch
        self.max_age, self.max_bytes = max_age, max_bytes
        self.statistics = CacheStatistics()
        self.step = 0
        self._random = random.Random(seed)
        self._places: list[dict[str, float]] | None = None
        self._timesteps: list[float] | None = None
        self._scope: object = _UNKNOWN
        self._signature: object = _UNKNOWN

    @contextmanager
    def view(
        self,
        *,
        elevation: Numbers,
        azimuth: Numbers,
        radius: Numbers,
        timestep: Numbers | None = None,
        scope: object = None,
    ) -> Iterator[None]:
        """Say which views the U-Net calls inside this block are for: B numbers each, or one for all.

        Degrees and scene units. `timestep` None takes the call's own (which waits for the GPU if it lies there).
        `scope` is what else a feature depends on, such as the prompt: when it changes, the cache starts anew.
        """
        if self._places is not None:
            raise RuntimeError("Expected one view at a time, but cache.view was entered inside another cache.view.")
        places = {"elevation": numbers(elevation), "azimuth": numbers(azimuth), "radius": numbers(radius)}
        count = max(len(values) for values in places.values())
        spread = {name: _spread(name, values, count) for name, values in places.items()}
        timesteps = None if timestep is None else _spread("timestep", numbers(timestep), count)
        if scope != self._scope and self._scope is not _UNKNOWN:
            self.reset()
        self._scope, self._timesteps = scope, timesteps
        self._places = [{name: spread[name][row] for name in spread} for row in range(count)]
        try:
            yield
        finally:
            self._places = self._timesteps = None

    @property
    def in_view(self) -> bool:
        """Whether a `view` block is open."""
        return self._places is not None

    @property
    def num_views(self) -> int:
        """Views of the open block."""
        return len(self._places or ())

    def keys(self, timestep: Numbers) -> list[Key]:
        """The keys of the open block's views; `timestep` is used if the block was opened without one."""
        if self._places is None:
            raise RuntimeError("Expected an open cache.view block; open one around the U-Net call.")
        timesteps = self._timesteps
        if timesteps is None:
            given = numbers(timestep)
            timesteps = _spread("timestep", given[: len(self._places)], len(self._places))
        return [Key(**place, timestep=time) for place, time in zip(self._places, timesteps, strict=True)]

    def match(self, signature: object) -> None:
        """Start anew if what the features depend on (dtype, device, shapes, adapters) has changed."""
        if signature != self._signature and self._signature is not _UNKNOWN:
            self.reset()
        self._signature = signature

    def lookup(self, keys: Sequence[Key], latents: Float[Tensor, "B C h w"]) -> list[Found | None]:
        """For each view what an earlier pass left, or None: then a full pass is due. One call is one step.

        A view whose find is marked for an audit runs both ways; `audit` takes the two predictions.
        """
        self.step += 1
        if self.max_age is not None:
            self.store.expire(self.step - self.max_age)
        coins = [self._random.random() for _ in (keys[:1] if self.whole_batch else keys)]
        warm = self.guard.warm(self.step)
        tries = [warm and coin < self.reuse_probability for coin in coins] * (len(keys) if self.whole_batch else 1)
        found = [self.store.lookup(key, latents[row], row) if tries[row] else None for row, key in enumerate(keys)]
        if self.whole_batch and any(item is None for item in found):
            found = [None] * len(keys)
        found = [self.guard.admit(item) for item in found]
        self.statistics.record(keys, tries, found, self.step)
        return found

    def insert(
        self,
        keys: Sequence[Key],
        rows: Sequence[int],
        latents: Float[Tensor, "B C h w"],
        features: Float[Tensor, "S M ..."],
    ) -> None:
        """Keep the features of the M views `rows` that ran in full. Copies: nothing of the caller's memory is held."""
        for place, row in enumerate(rows):
            entry = Entry(
                key=keys[row],
                latents=latents[row].detach().clone(),
                feature=features[:, place].detach().clone(),
                step=self.step,
            )
            self.store.insert(entry, row)
        self.statistics.peak_bytes = max(self.statistics.peak_bytes, self.store.num_bytes)

    def audit(self, reused: Float[Tensor, "S M C h w"], full: Float[Tensor, "S M C h w"]) -> None:
        """Compare the predictions of M views that were marked."""
        for view in range(full.shape[1]):
            self.guard.record(reused[:, view], full[:, view])

    def reset(self) -> None:
        """Forget all features. Statistics go on."""
        self.store.clear()

    def summary(self) -> dict[str, Any]:
        """The run's account, as `summary.json` shows it."""
        held = {"bytes": self.store.num_bytes, "bytes_limit": self.max_bytes}
        return {**self.statistics.summary(), **held, "guard": self.guard.summary()}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if it had not stopped: tensors and plain values."""
        version, internal, gauss = self._random.getstate()
        return {
            "store": self.store.state_dict(),
            "step": self.step,
            "random": [version, list(internal), gauss],
            "statistics": self.statistics.state_dict(),
            "guard": self.guard.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state; the next call says which scope and signature it belongs to."""
        self.reset()
        self._scope = self._signature = _UNKNOWN
        self.store.load_state_dict(state["store"])
        version, internal, gauss = state["random"]
        self._random.setstate((version, tuple(internal), gauss))
        self.step = state["step"]
        self.statistics = CacheStatistics.from_state_dict(state["statistics"])
        self.guard.load_state_dict(state["guard"])


def numbers(values: Numbers) -> list[float]:
    """A number, a sequence or a tensor as a list of floats on the host."""
    if isinstance(values, Tensor):
        return [float(value) for value in values.reshape(-1).tolist()]
    return [float(value) for value in values] if isinstance(values, Sequence) else [float(values)]


def _spread(name: str, values: list[float], count: int) -> list[float]:
    """One value for all, or one for each."""
    if len(values) == count:
        return values
    if len(values) == 1:
        return values * count
    raise ValueError(f"Expected 1 or {count} values of {name}, one for each view, but got {len(values)}.")
