"""From a camera and a timestep to an integer cell, and from the cell to a bucket.

Supplement of Hash3D (Yang and Wang 2024, https://arxiv.org/abs/2404.06091), Listing 1. Keys have named fields: the
released code stacks its key in another order than its cell sizes, which cannot happen here by accident.
"""

import math
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .config import GridConfig

FIELDS = ("elevation", "azimuth", "radius", "timestep")
Cell = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Key:
    """Where and when a feature was computed: degrees, scene units, a timestep in [0, 1000). Plain host numbers."""

    elevation: float
    azimuth: float
    radius: float
    timestep: float

    def gaps(self, other: "Key") -> dict[str, float]:
        """Absolute difference in each field; the azimuth's the short way round."""
        gaps = {name: abs(getattr(self, name) - getattr(other, name)) for name in FIELDS}
        gaps["azimuth"] = min(gaps["azimuth"] % 360.0, 360.0 - gaps["azimuth"] % 360.0)
        return gaps


class Grid:
    """Maps keys to cells and buckets."""

    def __init__(self, config: "GridConfig") -> None:
        self.config = config
        self._order = itemgetter(*(FIELDS.index(name) for name in config.order))

    def cell(self, key: Key) -> Cell:
        """Each field floored by its cell size, in the order of `config.order`."""
        cell: Cell = self._order([math.floor(value) for value in self.scale(vars(key))])
        return cell

    def scale(self, fields: dict[str, Any]) -> list[Any]:
        """Each field, a number or a tensor, in units of its cell's size."""
        if self.config.periodic:
            fields = fields | {"azimuth": fields["azimuth"] % 360.0 % 360.0}  # Twice: -1e-20 % 360 is 360.
        return [value / getattr(self.config, name) for name, value in fields.items()]

    def bucket(self, cell: Cell) -> int:
        """The cell's bucket, (i + N1 j + N2 k + N3 l) mod num_buckets."""
        i, j, k, l = cell  # noqa: E741
        n1, n2, n3 = self.config.multipliers
        return (i + n1 * j + n2 * k + n3 * l) % self.config.num_buckets

    def distance(self, key: Key, other: Key) -> float:
        """Euclidean distance of two keys in units of cells."""
        return math.sqrt(sum((gap / getattr(self.config, name)) ** 2 for name, gap in key.gaps(other).items()))
