"""Entries, and what every store of entries shares: an order of age and a byte budget that is never exceeded."""

from collections import OrderedDict
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from .grid import FIELDS, Key
from .memory.quantise import Quantised


@dataclass(kw_only=True, eq=False)
class Entry:
    """One view's feature: the S guidance branches together, and the noisy latents it was computed from.

    Two entries are equal only if they are the same object. Its tensors are the caller's until a `SlotPool` keeps it.
    """

    key: Key
    latents: Float[Tensor, "C h w"]
    feature: Float[Tensor, "S ..."] | Quantised
    step: int
    """The guidance call at which it was stored. It never falls from one insert to the next."""
    stored_bytes: int | None = None
    """Bytes that it takes where it is kept; None: as many as its tensors have now."""

    @property
    def values(self) -> Float[Tensor, "S ..."]:
        """The feature in its own dtype."""
        return self.feature.dequantise() if isinstance(self.feature, Quantised) else self.feature

    @cached_property
    def num_bytes(self) -> int:
        """Bytes that count against the budget."""
        if self.stored_bytes is not None:
            return self.stored_bytes
        feature = self.feature.num_bytes if isinstance(self.feature, Quantised) else self.feature.nbytes
        return self.latents.nbytes + feature

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        state = {**asdict(self.key), "latents": self.latents, "step": self.step}
        if isinstance(self.feature, Quantised):
            feature = self.feature
            return {**state, "feature": feature.codes, "scale": feature.scale, "dtype": feature.dtype}
        return {**state, "feature": self.feature}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> "Entry":
        """The inverse of `state_dict`."""
        feature = state["feature"]
        if "scale" in state:
            feature = Quantised(codes=feature, scale=state["scale"], dtype=state["dtype"])
        key = Key(**{name: state[name] for name in FIELDS})
        return cls(key=key, latents=state["latents"], feature=feature, step=state["step"])


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a lookup gave: the entries that make the view's feature, to be read before anything else is kept."""

    entries: tuple[Entry, ...]
    audit: bool = False
    """Whether the view is to run in full too, to see how far the two predictions are apart."""


@runtime_checkable
class Store(Protocol):
    """Where features are kept. `row` is the view's place in its batch."""

    @property
    def num_bytes(self) -> int:
        """Bytes held, at most the budget."""

    def capacity(self, views: int) -> int:
        """Entries that it can come to hold, whatever their size, if every call has so many views."""

    def lookup(self, key: Key, row: int) -> Found | None:
        """Which entries serve this view, or None."""

    def insert(self, entry: Entry, row: int) -> list[Entry]:
        """Keep an entry. Returns those that are not held any more: this one too if it is not kept."""

    def entries(self) -> list[Entry]:
        """Everything held, oldest first."""

    def state_dict(self) -> dict[str, Any]:
        """All that the store holds: tensors and plain values."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what was saved, and nothing else."""

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them."""

    def clear(self) -> None:
        """Forget everything."""


class BoundedEntries:
    """Entries by number, oldest first, within `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._next = 0

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, number: int) -> Entry:
        return self._entries[number]

    def values(self) -> list[Entry]:
        """All entries, oldest first."""
        return list(self._entries.values())

    def fits(self, entry: Entry) -> bool:
        """Whether the whole budget could hold the entry. One that it cannot is not kept, and pushes nothing out."""
        return entry.num_bytes <= self.max_bytes

    def add(self, entry: Entry) -> list[Entry]:
        """Add an entry that fits; the oldest leave *before* it enters. Returns those that left."""
        gone = []
        while self.num_bytes + entry.num_bytes > self.max_bytes:
            gone.append(self.remove_oldest())
        self._entries[self._next] = entry
        self._next += 1
        self.num_bytes += entry.num_bytes
        return gone

    @property
    def newest(self) -> int:
        """The number of the entry added last."""
        return self._next - 1

    def remove(self, number: int) -> Entry:
        """Forget one entry, and return it."""
        entry = self._entries.pop(number)
        self.num_bytes -= entry.num_bytes
        return entry

    def remove_oldest(self) -> Entry:
        """Forget the oldest entry, and return it."""
        return self.remove(next(iter(self._entries)))

    def expire(self, first_step: int) -> list[Entry]:
        """Forget the entries stored before `first_step`, and return them, oldest first."""
        gone = []
        while self._entries and next(iter(self._entries.values())).step < first_step:
            gone.append(self.remove_oldest())
        return gone

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()
        self.num_bytes = 0


class BoundedStore:
    """What the table and the pool share: entries by age within `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._entries = BoundedEntries(max_bytes)

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return self._entries.num_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def insert(self, entry: Entry, row: int) -> list[Entry]:
        """Keep an entry. Returns those that are not held any more: this one too if it is not kept."""
        raise NotImplementedError

    def entries(self) -> list[Entry]:
        """Everything held, oldest first."""
        return self._entries.values()

    def state_dict(self) -> dict[str, Any]:
        """The entries, oldest first."""
        return {"entries": [entry.state_dict() for entry in self.entries()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what was saved: inserting it in order gives the same store."""
        self.clear()
        for item in state["entries"]:
            self.insert(Entry.from_state_dict(item), 0)

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them, oldest first."""
        return self._entries.expire(first_step)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
