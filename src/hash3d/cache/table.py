"""The hash table: a dictionary of buckets, each a bounded queue of entries."""

from collections import deque
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from .aggregate import aggregated
from .grid import Grid, Key
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
        self._buckets: dict[int, deque[int]] = {}

    def candidates(self, key: Key) -> list[Entry]:
        """The entries that a lookup of `key` may use, oldest first."""
        cell = self.grid.cell(key)
        entries = [self._entries[number] for number in self._buckets.get(self.grid.bucket(cell), ())]
        return [entry for entry in entries if not self.verify or self.grid.cell(entry.key) == cell]

    def lookup(self, key: Key, latents: Float[Tensor, "C h w"], row: int) -> Found | None:
        """The blend, or the nearest, of the entries in the key's cell; None if there is none."""
        entries = self.candidates(key)
        if not entries:
            return None
        if self.aggregation == "nearest_key":
            nearest = min(reversed(entries), key=lambda entry: self.grid.distance(key, entry.key))
            return Found(feature=nearest.feature, entries=(nearest,))
        return aggregated(latents, entries)

    def insert(self, entry: Entry, row: int) -> None:
        """Append to the bucket's queue; the queue's and the budget's oldest leave."""
        if not self._entries.fits(entry):
            return
        bucket = self.grid.bucket(self.grid.cell(entry.key))
        if len(queue := self._buckets.get(bucket, deque())) == self.queue_length:
            self._entries.remove(queue.popleft())
        for oldest in self._entries.add(entry):
            self._forget(oldest)
        self._buckets.setdefault(bucket, deque()).append(self._entries.newest)

    def _forget(self, oldest: Entry) -> None:
        """Take an entry that the budget evicted out of its queue: the oldest of all heads its queue."""
        bucket = self.grid.bucket(self.grid.cell(oldest.key))
        self._buckets[bucket].popleft()
        if not self._buckets[bucket]:
            del self._buckets[bucket]

    def expire(self, first_step: int) -> None:
        """Forget every entry stored before `first_step`."""
        for entry in self._entries.expire(first_step):
            self._forget(entry)

    def clear(self) -> None:
        """Forget everything."""
        super().clear()
        self._buckets.clear()
