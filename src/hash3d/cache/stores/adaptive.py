"""The paper's adaptive grid: tables of different cells, and a choice among them by experience."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..calls import Entry
from ..grid import Key
from ..running import RunningMean
from ..state import load_entry, save_entry
from ..table import HashTable


class AdaptiveTable:
    """M tables of different cells; a lookup takes the one whose cell has served best (arXiv 2404.06091v1, section 4.2).

    Every entry goes to all tables. Before it does, each table's cell where it falls updates its running similarity
    s <- gamma s + (1 - gamma) mean cosine(new feature, the cell's features), which says what a retrieval would have
    been worth. A lookup is served by the table with the highest s, of those that hold something in the query's cell.

    A lookup runs nothing on the GPU to choose. Only where several tables hold something does it need their s, and
    then it waits at most until the GPU has come to the last insert into these cells.

    The tables hold the same tensors, not copies: `num_bytes` counts an entry once, and so does the byte budget.
    """

    def __init__(self, tables: Sequence[HashTable], *, gamma: float, max_bytes: int) -> None:
        self.tables, self.gamma, self.max_bytes = list(tables), gamma, max_bytes
        self._similarities: list[dict[Any, RunningMean]] = [{} for _ in self.tables]
        """Of each table, by identity and cell."""
        self._holders: dict[Entry, int] = {}
        """Every entry, oldest first, and how many tables hold it."""
        self.num_bytes = 0
        """Bytes held."""

    def locate(self, key: Key, row: int, identity: str) -> tuple[Any, ...]:
        """The view's place in each table."""
        return tuple(table.locate(key, row, identity) for table in self.tables)

    def entries(self) -> list[Entry]:
        """Every entry once, oldest first."""
        return list(self._holders)

    def _hold(self, entry: Entry, tables: int) -> None:
        self._holders[entry] = tables
        self.num_bytes += entry.num_bytes

    def _release(self, entries: Sequence[Entry]) -> list[Entry]:
        """Count what a table has dropped. Returns what no table holds any more."""
        evicted = []
        for entry in entries:
            self._holders[entry] -= 1
            if self._holders[entry] == 0:
                del self._holders[entry]
                self.num_bytes -= entry.num_bytes
                evicted.append(entry)
        return evicted

    def similarity(self, place: tuple[Any, ...]) -> list[float | None]:
        """The running similarity of the view's cell in each table; None where nothing was ever compared."""
        return [self._similarity(number, place[number]) for number in range(len(self.tables))]

    def _similarity(self, number: int, place: Any) -> float | None:
        running = self._similarities[number].get(_cell(place))
        return None if running is None else running.read()

    def lookup(self, place: tuple[Any, ...], key: Key) -> tuple[Entry, ...]:
        """What the best table that holds something in the key's cell gives; of equals, the finest (the first)."""
        found = {number: self.tables[number].lookup(own, key) for number, own in enumerate(place)}
        filled = [number for number, entries in found.items() if entries]
        if len(filled) < 2:
            return found[filled[0]] if filled else ()
        scores = {number: self._similarity(number, place[number]) for number in filled}
        return found[max(filled, key=lambda number: -2.0 if (score := scores[number]) is None else score)]

    def insert(self, entry: Entry, place: tuple[Any, ...]) -> list[Entry]:
        """Compare with what each table would have given, then keep the entry in all of them.

        Returns what no table holds any more: the oldest leave until the budget, which counts each entry once, has room.
        """
        for table, similarities, own in zip(self.tables, self._similarities, place, strict=True):
            if stored := table.candidates(own):
                running = similarities.setdefault(_cell(own), RunningMean(self.gamma))
                running.add(mean_cosine(entry.feature, [each.feature for each in stored]))
        if entry.num_bytes > self.max_bytes:
            return [entry]
        evicted = []
        while self.num_bytes + entry.num_bytes > self.max_bytes:
            evicted.append(self.remove(next(iter(self._holders))))
        self._hold(entry, len(self.tables))
        for table, own in zip(self.tables, place, strict=True):
            evicted += self._release(table.insert(entry, own))
        return evicted

    def remove(self, entry: Entry) -> Entry:
        """Forget an entry in all tables, and return it."""
        for table in self.tables:
            if entry in table.places:
                self._release([table.remove(entry)])
        return entry

    def expire(self, first_step: int) -> list[Entry]:
        """Forget every entry stored before `first_step`, and return them; what was learned of the cells stays."""
        return [entry for table in self.tables for entry in self._release(table.expire(first_step))]

    def clear(self) -> None:
        """Forget everything."""
        for table, similarities in zip(self.tables, self._similarities, strict=True):
            table.clear()
            similarities.clear()
        self._holders.clear()
        self.num_bytes = 0

    def state_dict(self) -> dict[str, Any]:
        """The entries, which of them each table holds and where, and the similarities with their cells."""
        numbers = {entry: number for number, entry in enumerate(self._holders)}
        return {
            "entries": [save_entry(entry) for entry in self._holders],
            "tables": [[(numbers[entry], place) for entry, place in table.places.items()] for table in self.tables],
            "similarities": [
                [(cell, running.state_dict()) for cell, running in similarities.items()]
                for similarities in self._similarities
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what was saved. Each table takes only what it held."""
        self.clear()
        entries = [load_entry(item) for item in state["entries"]]
        holders = Counter(number for held in state["tables"] for number, _ in held)
        for number, entry in enumerate(entries):
            self._hold(entry, holders[number])
        for table, held in zip(self.tables, state["tables"], strict=True):
            for number, place in held:
                table.insert(entries[number], place)
        for similarities, saved in zip(self._similarities, state["similarities"], strict=True):
            for cell, value in saved:
                similarities[cell] = RunningMean(self.gamma)
                similarities[cell].load_state_dict(value)


def _cell(place: Any) -> Any:
    """The identity and the cell of a place in a table, without the bucket."""
    (identity, _), cell = place
    return identity, cell


def mean_cosine(feature: Float[Tensor, "S ..."], stored: Sequence[Float[Tensor, "S ..."]]) -> Float[Tensor, ""]:
    """The mean cosine similarity of a feature with stored ones, in float32."""
    flat = feature.flatten().float()
    others = torch.stack([each.flatten().float() for each in stored])
    return torch.nn.functional.cosine_similarity(flat[None], others).mean()
