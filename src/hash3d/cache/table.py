"""The hash table: a dictionary of buckets, each a bounded queue of entries."""

from collections import deque
from typing import Literal

from .grid import Cell, Grid, Key
from .store import BoundedStore, Entry, Found

Aggregation = Literal["softmax", "nearest_key"]


class HashTable(BoundedStore):
    """Buckets of bounded queues (supplement, Listing 1).

    With `verify`, an entry is used only if its whole integer cell equals the query's; without, every entry of the
    bucket takes part, collisions included (the listing's bare behaviour).
    """

    def __init__(
        self, grid: Grid, *, queue_length: int, aggregation: Aggregation, verify: bool, max_bytes: int
    ) -> None:
        super().__init__(max_bytes)
        self.grid = grid
        self.queue_length, self.aggregation, self.verify = queue_length, aggregation, verify
        self._buckets: dict[int, deque[tuple[int, Cell]]] = {}
        """Of each bucket the numbers and cells of its entries, oldest first."""

    def capacity(self, views: int) -> int:
        """All queues full."""
        return self.grid.config.num_buckets * self.queue_length

    def candidates(self, key: Key) -> list[Entry]:
        """The entries that a lookup of `key` may use, oldest first."""
        cell = self.grid.cell(key)
        queue = self._buckets.get(self.grid.bucket(cell), ())
        return [self._entries[number] for number, held in queue if not self.verify or held == cell]

    def lookup(self, key: Key, row: int) -> Found | None:
        """All entries in the key's cell, or the nearest; None if there is none."""
        entries = self.candidates(key)
        if not entries:
            return None
        if self.aggregation == "nearest_key":
            entries = [min(reversed(entries), key=lambda entry: self.grid.distance(key, entry.key))]
        return Found(entries=tuple(entries))

    def insert(self, entry: Entry, row: int) -> list[Entry]:
        """Append to the bucket's queue; the queue's and the budget's oldest leave. Returns what left."""
        if not self._entries.fits(entry):
            return [entry]
        gone = []
        cell = self.grid.cell(entry.key)
        bucket = self.grid.bucket(cell)
        if len(queue := self._buckets.get(bucket, deque())) == self.queue_length:
            number, _ = queue.popleft()
            gone.append(self._entries.remove(number))
        pushed_out = self._entries.add(entry)
        for oldest in pushed_out:
            self._forget(oldest)
        self._buckets.setdefault(bucket, deque()).append((self._entries.newest, cell))
        return gone + pushed_out

    def _forget(self, oldest: Entry) -> None:
        """Take an entry that the budget evicted out of its queue: the oldest of all heads its queue."""
        bucket = self.grid.bucket(self.grid.cell(oldest.key))
        self._buckets[bucket].popleft()
        if not self._buckets[bucket]:
            del self._buckets[bucket]

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them, oldest first."""
        gone = super().expire(first_step)
        for entry in gone:
            self._forget(entry)
        return gone

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._buckets.clear()
