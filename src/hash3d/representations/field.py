"""The protocol of fields: density and colour at points."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class FieldSamples:
    """A field at N points: density in 1 / scene unit, colour, and unit normals out of the scene if asked for."""

    density: Float[Tensor, " N"]
    color: Float[Tensor, "N C"]
    normal: Float[Tensor, "N 3"] | None = None


@runtime_checkable
class Field(Protocol):
    """A scene that has a density and a colour at every point of the cube [-radius, radius]^3."""

    radius: float
    channels: int

    def density(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Return the density at world positions, in 1 / scene unit."""
        ...

    def query(self, points: Float[Tensor, "N 3"], *, normals: bool = False) -> FieldSamples:
        """Return density, colour and, if asked, normals at world positions."""
        ...
