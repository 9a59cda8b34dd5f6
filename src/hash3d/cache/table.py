"""The hash table: buckets, each a bounded queue of entries, within a budget of bytes."""

from collections import deque
from collections.abc import Hashable
from itertools import takewhile
from typing import Any

from .calls import Entry
from .grid import Grid, Key


class HashTable:
    """Buckets of bounded queues (supplement, Listing 1); `stores` has what can stand in its place.

    With `verify`, an entry is used only if its whole cell equals the query's; without, every entry of the bucket is
    (the listing's bare behaviour). Each identity has buckets of its own.
    """

    def __init__(self, grid: Grid, *, queue_length: int, nearest: bool, verify: bool, max_bytes: int) -> None:
        self.grid, self.queue_length, self.nearest, self.verify = grid, queue_length, nearest, verify
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._queues: dict[Hashable, deque[Entry]] = {}
        self.places: dict[Entry, Any] = {}
        """The bucket and the cell of every entry, oldest first."""

    def locate(self, key: Key, row: int, identity: str) -> Any:
        """The bucket and the cell of a view whose feature depends on `identity` besides the key."""
        cell = self.grid.cell(key)
        return (identity, self.grid.bucket(cell)), cell

    def lookup(self, place: Any, key: Key) -> tuple[Entry, ...]:
        """All entries in the key's cell, oldest first, or the nearest; of equals, the newest."""
        found = self.candidates(place)
        if self.nearest and found:
            return (min(reversed(found), key=lambda entry: self.grid.distance(key, entry.key)),)
        return found

    def candidates(self, place: Any) -> tuple[Entry, ...]:
        """The entries that a lookup may use, oldest first."""
        bucket, cell = place
        queue = self._queues.get(bucket, ())
        return tuple(entry for entry in queue if not self.verify or self.places[entry][1] == cell)

    def insert(self, entry: Entry, place: Any) -> list[Entry]:
        """Append to the bucket's queue; the queue's and the budget's oldest leave first. Returns what is not held."""
        if entry.num_bytes > self.max_bytes:
            return [entry]
        queue = self._queues.get(place[0], deque())
        evicted = [self.remove(queue[0])] if len(queue) == self.queue_length else []
        while self.num_bytes + entry.num_bytes > self.max_bytes:
            evicted.append(self.remove(next(iter(self.places))))
        self._queues.setdefault(place[0], deque()).append(entry)
        self.places[entry] = place
        self.num_bytes += entry.num_bytes
        return evicted

    def remove(self, entry: Entry) -> Entry:
        """Forget an entry, and return it."""
        bucket, _ = self.places.pop(entry)
        self._queues[bucket].remove(entry)
        if not self._queues[bucket]:
            del self._queues[bucket]
        self.num_bytes -= entry.num_bytes
        return entry

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them, oldest first."""
        return [self.remove(entry) for entry in list(takewhile(lambda entry: entry.step < first_step, self.places))]

    def entries(self) -> list[Entry]:
        """Everything held, oldest first."""
        return list(self.places)

    def clear(self) -> None:
        """Forget everything."""
        self._queues.clear()
        self.places.clear()
        self.num_bytes = 0
