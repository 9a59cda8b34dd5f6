"""The store of DeepCache, the baseline."""

from typing import Any

from ..calls import Entry
from ..config import GridConfig
from ..grid import Key
from ..table import HashTable


class LastFeature(HashTable):
    """DeepCache (Ma et al. 2024), uniform schedule: the last feature of this row of the batch, whatever the view.

    Every `interval`-th call of a row finds nothing, so that it runs in full and stores anew. A row for which there is
    no room is not kept, so that those that are held serve on.
    """

    def __init__(self, *, interval: int, max_bytes: int) -> None:
        super().__init__(GridConfig().build(), queue_length=1, nearest=False, verify=False, max_bytes=max_bytes)
        self.interval = interval

    def locate(self, key: Key, row: int, identity: str) -> Any:
        """The row, whatever the key."""
        return (identity, row), None

    def lookup(self, place: Any, key: Key) -> tuple[Entry, ...]:
        """The row's feature, at most `interval - 1` times."""
        found = self.candidates(place)
        for entry in found:
            entry.uses += 1
        return found if found and found[0].uses < self.interval else ()

    def insert(self, entry: Entry, place: Any) -> list[Entry]:
        """Replace the row's feature. Returns what is not held any more."""
        evicted = [self.remove(each) for each in self.candidates(place)]
        if self.num_bytes + entry.num_bytes > self.max_bytes:
            return [*evicted, entry]
        return evicted + super().insert(entry, place)
