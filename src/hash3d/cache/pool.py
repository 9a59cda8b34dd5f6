"""The store without keys."""

from jaxtyping import Float
from torch import Tensor

from .aggregate import aggregated
from .grid import Key
from .store import BoundedStore, Entry, Found


class Pool(BoundedStore):
    """The supplement's "without key hashing": a plain queue of the last features, searched by latents alone (B.1)."""

    def __init__(self, *, length: int, max_bytes: int) -> None:
        super().__init__(max_bytes)
        self.length = length

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
