"""The store without keys."""

from jaxtyping import Float
from torch import Tensor

from .aggregate import aggregated
from .grid import Key
from .store import BoundedEntries, Entry, Found


class Pool:
    """The supplement's "without key hashing": a plain queue of the last features, searched by latents alone (B.1)."""

    def __init__(self, *, length: int, max_bytes: int) -> None:
        self.length = length
        self._entries = BoundedEntries(max_bytes)

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return self._entries.num_bytes

    def __len__(self) -> int:
        return len(self._entries)

    def lookup(self, key: Key, latents: Float[Tensor, "C h w"], row: int) -> Found | None:
        """The blend of all entries by similarity of the latents; None if the pool is empty."""
        entries = self._entries.values()
        return aggregated(latents, entries) if entries else None

    def insert(self, entry: Entry, row: int) -> None:
        """Append; the oldest leaves a full pool."""
        if not self._entries.fits(entry):
            return
        if len(self._entries) == self.length:
            self._entries.remove_oldest()
        self._entries.add(entry)

    def expire(self, first_step: int) -> None:
        """Forget every entry stored before `first_step`."""
        self._entries.expire(first_step)

    def entries(self) -> list[tuple[Entry, int, int]]:
        """Everything held, oldest first."""
        return [(entry, 0, 0) for entry in self._entries.values()]

    def restore(self, entry: Entry, row: int, uses: int) -> None:
        """Take back one item of `entries()`."""
        self.insert(entry, row)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
