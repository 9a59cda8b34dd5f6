"""The store without keys."""

from ..grid import Key
from ..store import BoundedStore, Entry, Found


class Pool(BoundedStore):
    """The supplement's "without key hashing": a plain queue of the last features, searched by latents alone (B.1)."""

    def __init__(self, *, length: int, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.length = length

    def capacity(self, views: int) -> int:
        """Its length."""
        return self.length

    def lookup(self, key: Key, row: int) -> Found | None:
        """All entries; None if the pool is empty."""
        entries = self._entries.values()
        return Found(entries=tuple(entries)) if entries else None

    def insert(self, entry: Entry, row: int) -> list[Entry]:
        """Append; the oldest leaves a full pool. Returns what is not held any more."""
        if not self._entries.fits(entry):
            return [entry]
        gone = [self._entries.remove_oldest()] if len(self._entries) == self.length else []
        return gone + self._entries.add(entry)
