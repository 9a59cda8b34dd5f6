"""The store of DeepCache, the baseline."""

from typing import Any

from ..calls import Entry
from ..grid import Key
from ..state import load_entry, save_entry


class LastFeature:
    """DeepCache (Ma et al. 2024), uniform schedule: the last feature of this row of the batch, whatever the view.

    Every `interval`-th call of a row finds nothing, so that it runs in full and stores anew.
    """

    def __init__(self, *, interval: int, max_bytes: int) -> None:
        self.interval = interval
        self.max_bytes = max_bytes
        self._rows: dict[tuple[str, int], tuple[Entry, int]] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return sum(entry.num_bytes for entry, _ in self._rows.values())

    def locate(self, key: Key, row: int, identity: str) -> tuple[str, int]:
        """The row, whatever the key."""
        return identity, row

    def lookup(self, place: tuple[str, int], key: Key) -> tuple[Entry, ...]:
        """The row's feature, at most `interval - 1` times."""
        if place not in self._rows:
            return ()
        entry, uses = self._rows[place]
        if uses + 1 >= self.interval:
            return ()
        self._rows[place] = (entry, uses + 1)
        return (entry,)

    def insert(self, entry: Entry, place: tuple[str, int]) -> list[Entry]:
        """Replace the row's feature. Returns what is not held any more."""
        evicted = [self._rows.pop(place)[0]] if place in self._rows else []
        if self.num_bytes + entry.num_bytes > self.max_bytes:
            return [*evicted, entry]
        self._rows[place] = (entry, 0)
        return evicted

    def remove(self, entry: Entry) -> Entry:
        """Forget an entry, and return it."""
        self._rows = {place: item for place, item in self._rows.items() if item[0] is not entry}
        return entry

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them."""
        return [self.remove(entry) for entry in self.entries() if entry.step < first_step]

    def entries(self) -> list[Entry]:
        """Everything held."""
        return [entry for entry, _ in self._rows.values()]

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()

    def state_dict(self) -> dict[str, Any]:
        """The entries with their places and uses."""
        return {
            "entries": [save_entry(entry) | {"place": place, "uses": uses}
                        for place, (entry, uses) in self._rows.items()]
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what was saved."""
        self._rows = {item["place"]: (load_entry(item), item["uses"]) for item in state["entries"]}
