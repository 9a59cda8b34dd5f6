"""The store of DeepCache, the baseline."""

from typing import Any

from ..grid import Key
from ..store import Entry, Found


class LastFeature:
    """DeepCache (Ma et al. 2024), uniform schedule: the last feature of this place in the batch, whatever the view.

    Every `interval`-th call of a place finds nothing, so that it runs in full and stores anew.
    """

    def __init__(self, *, interval: int, max_bytes: int) -> None:
        self.interval = interval
        self.max_bytes = max_bytes
        self._rows: dict[int, tuple[Entry, int]] = {}

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return sum(entry.num_bytes for entry, _ in self._rows.values())

    def capacity(self, views: int) -> int:
        """One entry a view."""
        return views

    def lookup(self, key: Key, row: int) -> Found | None:
        """The row's feature, at most `interval - 1` times."""
        if row not in self._rows:
            return None
        entry, uses = self._rows[row]
        if uses + 1 >= self.interval:
            return None
        self._rows[row] = (entry, uses + 1)
        return Found(entries=(entry,))

    def insert(self, entry: Entry, row: int) -> list[Entry]:
        """Replace the row's feature. Returns what is not held any more."""
        gone = [self._rows.pop(row)[0]] if row in self._rows else []
        if self.num_bytes + entry.num_bytes > self.max_bytes:
            return [*gone, entry]
        self._rows[row] = (entry, 0)
        return gone

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them."""
        gone = {row: entry for row, (entry, _) in self._rows.items() if entry.step < first_step}
        for row in gone:
            del self._rows[row]
        return list(gone.values())

    def entries(self) -> list[Entry]:
        """Everything held."""
        return [entry for entry, _ in self._rows.values()]

    def state_dict(self) -> dict[str, Any]:
        """The entries with their places and uses."""
        return {"rows": [entry.state_dict() | {"row": row, "uses": uses} for row, (entry, uses) in self._rows.items()]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what was saved."""
        self._rows = {item["row"]: (Entry.from_state_dict(item), item["uses"]) for item in state["rows"]}

    def clear(self) -> None:
        """Forget everything."""
        self._rows.clear()
