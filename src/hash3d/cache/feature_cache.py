"""When to reuse a feature, and the account of it. The hook in `hash3d.unet.hook` asks; this answers."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from .blend import read
from .grid import Key
from .guard import Guard, GuardConfig
from .memory.slots import Layout, SlotPool, Storage
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
        storage: Storage = "full",
        guard: Guard | None = None,
    ) -> None:
        self.store = store
        self.guard = guard or GuardConfig().build()
        self.cut, self.mode = cut, mode
        self.reuse_probability, self.whole_batch = reuse_probability, whole_batch
        self.max_age, self.max_bytes, self.storage = max_age, max_bytes, storage
        self.statistics = CacheStatistics()
        self.step = 0
        self._pool: SlotPool | None = None
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
        """Start anew, memory included, if what features depend on (dtype, device, shapes, adapters) has changed."""
        if signature != self._signature and self._signature is not _UNKNOWN:
            self.reset()
            self._pool = None
        self._signature = signature

    def lookup(self, keys: Sequence[Key]) -> list[Found | None]:
        """For each view what an earlier pass left, or None: then a full pass is due. One call is one step.

        `read` makes features of what was found. A view whose find is marked for an audit runs both ways; `audit` takes
        the two predictions.
        """
        self.step += 1
        if self.max_age is not None:
            self._forget(self.store.expire(self.step - self.max_age))
        coins = [self._random.random() for _ in (keys[:1] if self.whole_batch else keys)]
        warm = self.guard.warm(self.step)
        tries = [warm and coin < self.reuse_probability for coin in coins] * (len(keys) if self.whole_batch else 1)
        found = [self.store.lookup(key, row) if tries[row] else None for row, key in enumerate(keys)]
        if self.whole_batch and any(item is None for item in found):
            found = [None] * len(keys)
        found = [self.guard.admit(item) for item in found]
        self.statistics.record(keys, tries, found, self.step)
        return found

    def read(self, finds: Sequence[tuple[int, Found]], latents: Float[Tensor, "B C h w"]) -> Float[Tensor, "S M ..."]:
        """The features of M views: of each its row in the batch, and what `lookup` has just found for it.

        To be called before the next `insert`, which may write where these entries lie.
        """
        first = finds[0][1].entries[0]
        pool = self._pool_for(Layout.of(first.latents, first.feature, latents.device), len(latents))
        assert all(entry in pool for _, found in finds for entry in found.entries), "read before the next insert"
        return read([latents[row] for row, _ in finds], [found.entries for _, found in finds])

    def insert(
        self,
        keys: Sequence[Key],
        rows: Sequence[int],
        latents: Float[Tensor, "B C h w"],
        features: Float[Tensor, "S M ..."],
    ) -> None:
        """Keep the features of the M views `rows` that ran in full. Copies: nothing of the caller's memory is held."""
        latents, features = latents.detach(), features.detach()
        pool = self._pool_for(Layout.of(latents[0], features[:, 0], latents.device), len(keys))
        new, gone = [], []
        for place, row in enumerate(rows):
            feature, size = features[:, place], pool.slot_bytes
            entry = Entry(key=keys[row], latents=latents[row], feature=feature, step=self.step, stored_bytes=size)
            new.append(entry)
            gone += self.store.insert(entry, row)
        self._forget(gone)
        pool.keep([entry for entry in new if entry not in gone])
        self.statistics.peak_bytes = max(self.statistics.peak_bytes, self.store.num_bytes)

    def _forget(self, gone: Sequence[Entry]) -> None:
        """Let go of the memory of entries that the store has dropped."""
        if self._pool is not None:
            self._pool.free(gone)

    def _pool_for(self, layout: Layout, views: int) -> SlotPool:
        """The memory of entries of this layout, for calls of so many views.

        It is made here when the first entries come, or when those of a loaded state are needed, which move in. Entries
        of another layout are forgotten.
        """
        if self._pool is not None and self._pool.layout == layout:
            return self._pool
        held = self.store.entries()
        if held and (self._pool or Layout.of(held[0].latents, held[0].feature, layout.device) != layout):
            self.reset()
        slots = self.store.capacity(views)
        if self.max_age is not None:
            slots = min(slots, (self.max_age + 1) * views)
        self._pool = SlotPool(layout, storage=self.storage, block_slots=slots, max_bytes=self.max_bytes)
        self._pool.keep(self.store.entries())
        return self._pool

    def audit(self, reused: Float[Tensor, "S M C h w"], full: Float[Tensor, "S M C h w"]) -> None:
        """Compare the predictions of M views that were marked."""
        for view in range(full.shape[1]):
            self.guard.record(reused[:, view], full[:, view])

    def reset(self) -> None:
        """Forget all features. Statistics go on."""
        self._forget(self.store.entries())
        self.store.clear()

    @property
    def bytes_allocated(self) -> int:
        """Memory taken for entries, at most `max_bytes`; a resumed run takes it at its first call."""
        return 0 if self._pool is None else self._pool.num_bytes

    def summary(self) -> dict[str, Any]:
        """The run's account, as `summary.json` shows it."""
        held = {"bytes": self.store.num_bytes, "bytes_limit": self.max_bytes}
        return {**self.statistics.summary(), **held, "guard": self.guard.summary()}

    def state_dict(self) -> dict[str, Any]:
        """All that a resumed run needs to go on as if it had not stopped: tensors and plain values."""
        version, internal, gauss = self._random.getstate()
        return {
            "store": _copied(self.store.state_dict()),
            "storage": self.storage,
            "step": self.step,
            "random": [version, list(internal), gauss],
            "statistics": self.statistics.state_dict(),
            "guard": self.guard.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over a saved state; the next call says which scope, signature and device it belongs to.

        Raises:
            ValueError: it was saved with another `storage`.
        """
        if state["storage"] != self.storage:
            raise ValueError(
                f"Expected a state saved with storage={self.storage}, but got one with {state['storage']}. "
                f"Set Hash3DConfig(storage={state['storage']!r}), or start anew."
            )
        self.reset()
        self._pool = None
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


def _copied(state: Any) -> Any:
    """A state whose tensors have memory of their own, on the host: an entry's are parts of a whole block of slots."""
    if isinstance(state, dict):
        return {name: _copied(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_copied(value) for value in state]
    return state.to("cpu", copy=True) if isinstance(state, Tensor) else state
