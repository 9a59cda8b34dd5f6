"""Keys with named fields, and the grid that maps a key to an integer cell and a bucket.

Supplement of Hash3D (Yang and Wang 2024), Listing 1: floor by cell size, then i + N1 j + N2 k + N3 l modulo the number
of buckets. The released code stacks its key in another order than its cell sizes (an azimuth cell of 0.1 degree);
with named fields that cannot happen by accident, and `RELEASED_GRID` reproduces it on purpose.
"""

import math
from dataclasses import dataclass, fields
from operator import itemgetter
from typing import NamedTuple

FIELDS = ("elevation", "azimuth", "radius", "timestep")
PRIMES = (73856093, 19349669, 83492791)
"""N1, N2, N3 of the released code (the papers give no values)."""

Cell = tuple[int, int, int, int]


@dataclass(frozen=True, kw_only=True)
class Key:
    """Where and when a feature was computed: degrees, scene units, a timestep in [0, 1000). Plain host numbers."""

    elevation: float
    azimuth: float
    radius: float
    timestep: float

    def gaps(self, other: "Key") -> "Gaps":
        """Absolute difference in each field; the azimuth's the short way round."""
        azimuth = abs(self.azimuth - other.azimuth) % 360.0
        return Gaps(
            abs(self.elevation - other.elevation),
            min(azimuth, 360.0 - azimuth),
            abs(self.radius - other.radius),
            abs(self.timestep - other.timestep),
        )


class Gaps(NamedTuple):
    """How far two keys are apart, in the units and the order of `FIELDS`."""

    elevation: float
    azimuth: float
    radius: float
    timestep: float


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Cell sizes and the hash."""

    elevation: float = 20.0
    """Cell size in degrees. Larger cells hit more often, with features of views further off; the paper has 10 to 30."""
    azimuth: float = 20.0
    """Cell size in degrees. A feature ages fast with the azimuth: 20 degrees cost about a quarter of its similarity."""
    radius: float = 0.1
    """Cell size in scene units."""
    timestep: float = 100.0
    """Cell size in diffusion steps. A feature ages slowly with the timestep, so this can be wide."""
    num_buckets: int = 2**31 - 1
    """Size of the hash table. Buckets are made when first filled, so a large number costs nothing."""
    periodic: bool = True
    """Whether azimuths -1 and 359 are one place. The released code has no wrap."""
    order: tuple[str, str, str, str] = FIELDS
    """Which field is i, j, k and l of the listing; it only changes which cells collide."""

    def __post_init__(self) -> None:
        for field in fields(self)[:4]:
            size = getattr(self, field.name)
            if not (size > 0 and math.isfinite(size)):
                raise ValueError(f"Expected the cell size {field.name} to be positive, but got {size}.")
        if self.num_buckets < 1:
            raise ValueError(f"Expected at least one bucket, but got num_buckets={self.num_buckets}.")
        if sorted(self.order) != sorted(FIELDS):
            raise ValueError(f"Expected order to name {', '.join(FIELDS)} once each, but got {self.order}.")

    def build(self) -> "Grid":
        """The grid of this configuration."""
        return Grid(self)


RELEASED_GRID = GridConfig(
    timestep=20.0,
    elevation=20.0,
    azimuth=0.1,
    radius=10.0,
    num_buckets=200,
    periodic=False,
    order=("timestep", "elevation", "azimuth", "radius"),
)
"""The released code's key [t, elevation, azimuth, distance] over delta_c = [20, 20, 0.1] and delta_t = 10
(Adamdad/hash3D cc48922, threestudio/utils/hash_table.py)."""


class Grid:
    """Maps keys to cells and buckets."""

    def __init__(self, config: GridConfig) -> None:
        self.config = config
        self._order = itemgetter(*(FIELDS.index(name) for name in config.order))

    def cell(self, key: Key) -> Cell:
        """The integer cell, in the order of `config.order`."""
        config, azimuth = self.config, key.azimuth
        if config.periodic:
            azimuth = azimuth % 360.0 % 360.0  # Twice: -1e-20 % 360 is 360.
        cell: Cell = self._order(
            (
                math.floor(key.elevation / config.elevation),
                math.floor(azimuth / config.azimuth),
                math.floor(key.radius / config.radius),
                math.floor(key.timestep / config.timestep),
            )
        )
        return cell

    def bucket(self, cell: Cell) -> int:
        """The cell's bucket, (i + N1 j + N2 k + N3 l) mod num_buckets (supplement, Listing 1)."""
        i, j, k, l = cell  # noqa: E741
        return (i + PRIMES[0] * j + PRIMES[1] * k + PRIMES[2] * l) % self.config.num_buckets

    def distance(self, key: Key, other: Key) -> float:
        """Euclidean distance of two keys in units of cells."""
        gaps, config = key.gaps(other), self.config
        return math.sqrt(
            (gaps.elevation / config.elevation) ** 2
            + (gaps.azimuth / config.azimuth) ** 2
            + (gaps.radius / config.radius) ** 2
            + (gaps.timestep / config.timestep) ** 2
        )
