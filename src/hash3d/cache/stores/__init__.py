"""The protocol of what a cache keeps features in, and the stores besides the method's `HashTable`."""

from typing import Any, Protocol, runtime_checkable

from ..calls import Entry
from ..grid import Key


@runtime_checkable
class Store(Protocol):
    """Where features are kept. A place says where a view falls: plain values, made by `locate` once a call."""

    @property
    def num_bytes(self) -> int:
        """Bytes held, at most the budget."""

    def locate(self, key: Key, row: int, identity: str) -> Any:
        """The place of a view: its key, its row in the batch, and what its feature depends on besides."""

    def lookup(self, place: Any, key: Key) -> tuple[Entry, ...]:
        """Which entries serve this view; none is ()."""

    def insert(self, entry: Entry, place: Any) -> list[Entry]:
        """Keep an entry. Returns those that are not held any more: this one too if it is not kept."""

    def remove(self, entry: Entry) -> Entry:
        """Forget an entry that is held, and return it."""

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them."""

    def entries(self) -> list[Entry]:
        """Everything held, oldest first."""

    def clear(self) -> None:
        """Forget everything."""
