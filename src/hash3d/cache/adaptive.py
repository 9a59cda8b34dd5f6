"""The paper's adaptive grid: tables of different cells, and a choice among them by experience."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .grid import Cell, Key
from .store import Entry, Found
from .table import HashTable


class AdaptiveTable:
    """M tables of different cells; a lookup takes the one whose cell has served best (arXiv 2404.06091v1, section 4.2).

    Every entry goes to all tables. Before it does, each table's cell where it falls updates its running similarity
    s <- gamma s + (1 - gamma) mean cosine(new feature, the cell's features), which says what a retrieval would have
    been worth. A lookup is served by the table with the highest s, of those that hold something in the query's cell.

    The tables hold the same tensors, not copies, and share the byte budget evenly; `num_bytes` counts an entry once.
    """

    def __init__(self, tables: Sequence[HashTable], *, gamma: float) -> None:
        self.tables, self.gamma = list(tables), gamma
        self._similarities: list[dict[Cell, Float[Tensor, ""]]] = [{} for _ in self.tables]

    @property
    def num_bytes(self) -> int:
        """Bytes held."""
        return sum(entry.num_bytes for entry in self.entries())

    def __len__(self) -> int:
        return len(self.entries())

    def entries(self) -> list[Entry]:
        """Every entry once, oldest first."""
        held = {id(entry): entry for table in self.tables for entry in table.entries()}
        return sorted(held.values(), key=lambda entry: entry.step)

    def similarity(self, key: Key) -> list[float | None]:
        """The running similarity of the key's cell in each table; None where nothing was ever compared."""
        found = [
            running.get(table.grid.cell(key)) for table, running in zip(self.tables, self._similarities, strict=True)
        ]
        return [None if value is None else float(value) for value in found]

    def lookup(self, key: Key, latents: Float[Tensor, "C h w"], row: int) -> Found | None:
        """What the best table that holds something in the key's cell gives; of equals, the finest (the first)."""
        filled = [number for number, table in enumerate(self.tables) if table.candidates(key)]
        if not filled:
            return None
        scores = self.similarity(key)
        best = max(filled, key=lambda number: (scores[number] if scores[number] is not None else -2.0, -number))
        return self.tables[best].lookup(key, latents, row)

    def insert(self, entry: Entry, row: int) -> None:
        """Compare with what each table would have given, then keep the entry in all of them."""
        for table, running in zip(self.tables, self._similarities, strict=True):
            stored = table.candidates(entry.key)
            if stored:
                cell = table.grid.cell(entry.key)
                measured = mean_cosine(entry.feature, [each.feature for each in stored])
                running[cell] = measured if cell not in running else torch.lerp(measured, running[cell], self.gamma)
            table.insert(entry, row)

    def expire(self, first_step: int) -> None:
        """Forget every entry stored before `first_step`; what was learned of the cells stays."""
        for table in self.tables:
            table.expire(first_step)

    def clear(self) -> None:
        """Forget everything."""
        for table, running in zip(self.tables, self._similarities, strict=True):
            table.clear()
            running.clear()

    def state_dict(self) -> dict[str, Any]:
        """The entries, and the similarities with their cells."""
        similarities = [
            [[list(cell), float(value)] for cell, value in running.items()] for running in self._similarities
        ]
        return {"entries": [entry.state_dict() for entry in self.entries()], "similarities": similarities}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Hold what was saved: each table keeps the newest of a cell, so inserting all in order gives the same."""
        self.clear()
        for item in state["entries"]:
            entry = Entry.from_state_dict(item)
            for table in self.tables:
                table.insert(entry, 0)
        for running, saved in zip(self._similarities, state["similarities"], strict=True):
            running.update({tuple(cell): torch.tensor(value) for cell, value in saved})


def mean_cosine(feature: Float[Tensor, "S ..."], stored: Sequence[Float[Tensor, "S ..."]]) -> Float[Tensor, ""]:
    """The mean cosine similarity of a feature with stored ones, in float32."""
    flat = feature.flatten().float()
    others = torch.stack([each.flatten().float() for each in stored])
    return torch.nn.functional.cosine_similarity(flat[None], others).mean()
