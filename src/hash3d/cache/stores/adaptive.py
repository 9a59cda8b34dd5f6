"""The paper's adaptive grid: tables of different cells, and a choice among them by experience."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..grid import Cell, Key
from ..running import RunningMean
from ..store import Entry, Found
from ..table import HashTable


class AdaptiveTable:
    """M tables of different cells; a lookup takes the one whose cell has served best (arXiv 2404.06091v1, section 4.2).

    Every entry goes to all tables. Before it does, each table's cell where it falls updates its running similarity
    s <- gamma s + (1 - gamma) mean cosine(new feature, the cell's features), which says what a retrieval would have
    been worth. A lookup is served by the table with the highest s, of those that hold something in the query's cell.

    A lookup runs nothing on the GPU to choose. Only where several tables hold something does it need their s, and
    then it waits at most until the GPU has come to the last insert into these cells.

    The tables hold the same tensors, not copies, and share the byte budget evenly; `num_bytes` counts an entry once.
    """

    def __init__(self, tables: Sequence[HashTable], *, gamma: float) -> None:
        self.tables, self.gamma = list(tables), gamma
        self._similarities: list[dict[Cell, RunningMean]] = [{} for _ in self.tables]
        self._holders: dict[Entry, int] = {}
        """Every entry, oldest first, and how many tables hold it."""
        self.num_bytes = 0
        """Bytes held."""

    def __len__(self) -> int:
        return len(self._holders)

    def capacity(self, views: int) -> int:
        """All tables full of different entries."""
        return sum(table.capacity(views) for table in self.tables)

    def entries(self) -> list[Entry]:
        """Every entry once, oldest first."""
        return list(self._holders)

    def _hold(self, entry: Entry, tables: int) -> None:
        self._holders[entry] = tables
        self.num_bytes += entry.num_bytes

    def _release(self, entries: Sequence[Entry]) -> list[Entry]:
        """Count what a table has dropped. Returns what no table holds any more."""
        gone = []
        for entry in entries:
            self._holders[entry] -= 1
            if self._holders[entry] == 0:
                del self._holders[entry]
                self.num_bytes -= entry.num_bytes
                gone.append(entry)
        return gone

    def similarity(self, key: Key) -> list[float | None]:
        """The running similarity of the key's cell in each table; None where nothing was ever compared."""
        return [self._similarity(number, key) for number in range(len(self.tables))]

    def _similarity(self, number: int, key: Key) -> float | None:
        running = self._similarities[number].get(self.tables[number].grid.cell(key))
        return None if running is None else running.read()

    def lookup(self, key: Key, row: int) -> Found | None:
        """What the best table that holds something in the key's cell gives; of equals, the finest (the first)."""
        filled = [number for number, table in enumerate(self.tables) if table.candidates(key)]
        if not filled:
            return None
        best = filled[0]
        if len(filled) > 1:
            scores = {number: self._similarity(number, key) for number in filled}
            best = max(filled, key=lambda number: -2.0 if (score := scores[number]) is None else score)
        return self.tables[best].lookup(key, row)

    def insert(self, entry: Entry, row: int) -> list[Entry]:
        """Compare with what each table would have given, then keep the entry in all of them.

        Returns what no table holds any more.
        """
        gone = []
        self._hold(entry, len(self.tables))
        for table, similarities in zip(self.tables, self._similarities, strict=True):
            if stored := table.candidates(entry.key):
                running = similarities.setdefault(table.grid.cell(entry.key), RunningMean(self.gamma))
                running.add(mean_cosine(entry.values, [each.values for each in stored]))
            gone += self._release(table.insert(entry, row))
        return gone

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
        """The entries, which of them each table holds, and the similarities with their cells."""
        entries = self.entries()
        numbers = {entry: number for number, entry in enumerate(entries)}
        return {
            "entries": [entry.state_dict() for entry in entries],
            "tables": [[numbers[entry] for entry in table.entries()] for table in self.tables],
            "similarities": [
                [[list(cell), running.state_dict()] for cell, running in similarities.items()]
                for similarities in self._similarities
            ],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what was saved. Each table takes only what it held, though another's entries might find room in it."""
        self.clear()
        entries = [Entry.from_state_dict(item) for item in state["entries"]]
        holders = Counter(number for numbers in state["tables"] for number in numbers)
        for number, entry in enumerate(entries):
            self._hold(entry, holders[number])
        for table, numbers in zip(self.tables, state["tables"], strict=True):
            for number in numbers:
                self._release(table.insert(entries[number], 0))
        for similarities, saved in zip(self._similarities, state["similarities"], strict=True):
            for cell, value in saved:
                similarities[tuple(cell)] = RunningMean(self.gamma)
                similarities[tuple(cell)].load_state_dict(value)


def mean_cosine(feature: Float[Tensor, "S ..."], stored: Sequence[Float[Tensor, "S ..."]]) -> Float[Tensor, ""]:
    """The mean cosine similarity of a feature with stored ones, in float32."""
    flat = feature.flatten().float()
    others = torch.stack([each.flatten().float() for each in stored])
    return torch.nn.functional.cosine_similarity(flat[None], others).mean()
