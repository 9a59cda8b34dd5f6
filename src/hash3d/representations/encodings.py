"""Encode points of the unit cube as features for a small network."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hash3d.kernels import FieldBackend, find_kernels, uses_triton
from hash3d.ranges import expect_range

from ._grid_network import value_and_gradient as query
from ._hash_grid_sums import encode, encode_backward
from .relu_network import find_network, value_and_gradient, weights_of

HASH_PRIMES = (1, 2_654_435_761, 805_459_861)
"""Multipliers of the spatial hash, one an axis (Mueller et al. 2022, section 3)."""

Backward = Callable[[Tensor], Tensor]
"""From gradients in N features, "N F", to those in N points, "N 3"."""


@dataclass(frozen=True, kw_only=True)
class HashGridConfig:
    """A multiresolution hash grid (Mueller et al. 2022, "Instant Neural Graphics Primitives"); as threestudio's.

    Args:
        levels: Number of grids.
        features: Features a level.
        log2_entries: Log2 of the most entries that a level stores; a grid with more corners is hashed. 14 suits a CPU.
        base_resolution: Cells a side of the coarsest grid.
        finest_resolution: Cells a side of the finest grid; levels grow by one factor (Mueller et al. 2022, eq. 3).
        start_level: Levels switched on at step 0; None: all. The others give zeros until their turn, coarse to fine.
        start_step: Step at which levels begin to be added (threestudio 28d9d80, configs/dreamfusion-sd.yaml).
        update_steps: Steps per added level: start_level + floor(max(step - start_step, 0) / update_steps) are on.
        backend: auto: kernels, by numba on a CPU (the field's networks' too) and on CUDA by Triton if it is installed;
            else torch, the reference implementation.
    """

    levels: int = 16
    features: int = 2
    log2_entries: int = 19
    base_resolution: int = 16
    finest_resolution: int = 4096
    start_level: int | None = None
    start_step: int = 2000
    update_steps: int = 500

    backend: FieldBackend = "auto"

    def __post_init__(self) -> None:
        expect_range(self, "levels features log2_entries base_resolution update_steps", at_least=1)
        expect_range(self, "finest_resolution", at_least=self.base_resolution)
        expect_range(self, "start_level", at_least=1, at_most=self.levels)

    @property
    def resolutions(self) -> list[int]:
        """Cells a side of each level, floor(base * growth^level) (Mueller et al. 2022, eq. 2)."""
        growth = (self.finest_resolution / self.base_resolution) ** (1.0 / max(self.levels - 1, 1))
        return [math.floor(self.base_resolution * growth**level * (1.0 + 1e-9)) for level in range(self.levels)]

    def active_levels(self, step: int) -> int:
        """Return how many levels are on at `step`."""
        if self.start_level is None:
            return self.levels
        return min(self.levels, self.start_level + max(step - self.start_step, 0) // self.update_steps)

    def build(self, generator: torch.Generator) -> "HashGrid":
        """Build a grid with entries uniform in [-1e-4, 1e-4] from `generator` (Mueller et al. 2022, section 4)."""
        return HashGrid(self, generator)


class Encoding(nn.Module):
    """What both encodings share."""

    config: Any

    @property
    def backend(self) -> FieldBackend:
        """What computes the features, and the networks behind them."""
        backend: FieldBackend = self.config.backend
        return backend

    def forward_and_backward(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N F"], Backward]:
        """Return the features, and the differentiable backward pass from their gradients to those of the points."""
        features, backward, *_ = torch.func.vjp(self, points)
        return features, lambda cotangents: backward(cotangents)[0]

    def value_and_gradient(
        self, points: Float[Tensor, "N 3"], network: nn.Sequential
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Return the features, a network's single output of them, and its gradient in the points.

        All are differentiable in the parameters.
        """
        features, backward = self.forward_and_backward(points)
        value, by_features = value_and_gradient(network, features)
        return features, value, backward(by_features)


class HashGrid(Encoding):
    """Trilinear interpolation in grids whose corners share the entries of a table by hash where they do not all fit.

    `table` is "features entries", levels concatenated: PyTorch gathers single numbers far faster than short rows.
    `levels` has a row per level: resolution, first entry, whether all corners fit, number of entries - 1 (the mask of
    the hash), factors of y and z.
    """

    levels: Tensor

    def __init__(self, config: HashGridConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.num_features = config.levels * config.features
        self.active_levels = config.active_levels(0)
        self.sizes = [min((resolution + 1) ** 3, 2**config.log2_entries) for resolution in config.resolutions]
        entries = torch.empty(config.features, sum(self.sizes)).uniform_(-1e-4, 1e-4, generator=generator)
        self.table = nn.Parameter(entries)
        self.register_buffer("levels", torch.tensor(self._describe_levels()), persistent=False)

    def set_step(self, step: int) -> None:
        """Switch on the levels of `step`."""
        self.active_levels = self.config.active_levels(step)

    def forward(
        self, points: Float[Tensor, "N 3"], known: Tensor | None = None, limit: Int[Tensor, ""] | None = None
    ) -> Float[Tensor, "N F"]:
        """Features of points in [0, 1]^3 (clamped), coarse levels first; differentiable, by kernels only once.

        `known` are these features, if they are known already: kernels then do without. `limit` says on the device how
        many points count: Triton's kernel, then without derivative, leaves out the others.
        """
        if (sums := self._find_kernels()) is not None:
            active = self.levels[: self.active_levels]
            if limit is not None and self.table.is_cuda:
                found: Tensor = sums.gather(points, self.table, active, self.num_features, limit=limit)
                return found
            return encode(sums, points, self.table, active, self.num_features, known)
        axes, tables = points.T.clamp(0.0, 1.0), self.table.split(self.sizes, dim=1)[: self.active_levels]
        levels = zip(tables, self.config.resolutions, strict=False)
        planes = [plane for table, resolution in levels for plane in interpolate(table, axes, resolution)]
        return torch.nn.functional.pad(torch.stack(planes), (0, 0, 0, self.num_features - len(planes))).T

    def forward_and_backward(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "N F"], Backward]:
        """Return the features, and the differentiable backward pass from their gradients to those of the points."""
        if (sums := self._find_kernels()) is None:
            return super().forward_and_backward(points)
        active = self.levels[: self.active_levels]
        return self(points), lambda cotangents: encode_backward(sums, points, self.table, active, cotangents)

    def value_and_gradient(
        self, points: Float[Tensor, "N 3"], network: nn.Sequential
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Return the features, a network's single output of them, and its gradient in the points.

        All are differentiable in the parameters; by Triton as one function, if no gradient of the points is wanted.
        """
        sums, weights = self._find_kernels(), weights_of(network)
        slopes = getattr(find_network(self.backend, weights, points), "slopes", None)
        if sums is None or slopes is None or not slopes.supports(weights) or points.requires_grad:
            return super().value_and_gradient(points, network)
        active = self.levels[: self.active_levels]
        return query(sums, slopes, points, self.table, active, self.num_features, weights)

    def _find_kernels(self) -> ModuleType | None:
        """The module that computes the sums: Triton's, on a CPU numba's, or None for PyTorch."""
        return find_kernels(self.backend, "hash3d.representations", "hash_grid", self.table)

    def _describe_levels(self) -> list[list[int]]:
        rows, first = [], 0
        for resolution, size in zip(self.config.resolutions, self.sizes, strict=True):
            factors = corner_factors(resolution, size)
            rows.append([resolution, first, int(factors != HASH_PRIMES), size - 1, *factors[1:]])
            first += size
        return rows

    def get_extra_state(self) -> dict[str, int]:
        """Return the levels switched on, so that a checkpoint shows the same scene."""
        return {"active_levels": self.active_levels}

    def set_extra_state(self, state: Any) -> None:
        """The inverse of `get_extra_state`."""
        self.active_levels = state["active_levels"]


def interpolate(
    table: Float[Tensor, "features entries"], axes: Float[Tensor, "3 N"], resolution: int
) -> list[Float[Tensor, " N"]]:
    """Interpolate a level's features trilinearly at the coordinates `axes` in [0, 1]."""
    scaled = axes * resolution
    lower = scaled.detach().floor().clamp(max=resolution - 1)
    indices = corner_entries(torch.stack([lower, lower + 1.0], dim=1).long(), resolution, table.shape[1]).flatten(0, 2)
    fraction = scaled - lower
    x, y, z = torch.stack([1.0 - fraction, fraction], dim=1)
    weights = (x[:, None, None] * y[None, :, None] * z[None, None, :]).flatten(0, 2)
    return [(plane.gather(0, indices.flatten()).view_as(indices) * weights).sum(dim=0) for plane in table]


def corner_entries(corners: Int[Tensor, "3 2 N"], resolution: int, entries: int) -> Int[Tensor, "2 2 2 N"]:
    """Return the entry of each corner of each cell, along x, y and z: its index if all fit, else its hash (eq. 4)."""
    factors = corner_factors(resolution, entries)
    x, y, z = (corner * factor for corner, factor in zip(corners, factors, strict=True))
    x, y, z = x[:, None, None], y[None, :, None], z[None, None, :]
    return (x ^ y ^ z) & (entries - 1) if factors == HASH_PRIMES else x + y + z


def corner_factors(resolution: int, entries: int) -> tuple[int, int, int]:
    """Return the factors of the corners' coordinates: those of their index if all corners fit, else the hash's."""
    side = resolution + 1
    return (1, side, side**2) if side**3 <= entries else HASH_PRIMES


@dataclass(frozen=True, kw_only=True)
class FrequencyConfig:
    """Sines and cosines of the coordinates (Mildenhall et al. 2020, "NeRF", eq. 4).

    Args:
        num_frequencies: Frequencies pi, 2 pi, 4 pi, ... of coordinates in [-1, 1]. NeRF has 10, Stable-DreamFusion 6.
        backend: auto: on CUDA kernels (the field's networks' too) by Triton if it is installed; else torch, the
            reference implementation.
    """

    num_frequencies: int = 6
    backend: FieldBackend = "auto"

    def __post_init__(self) -> None:
        expect_range(self, "num_frequencies", at_least=1)

    def build(self, generator: torch.Generator) -> "Frequency":
        """Build the encoding; it has no parameters, so nothing is initialised."""
        return Frequency(self)


class Frequency(Encoding):
    """The coordinates in [-1, 1], then sin(2^k pi x), then cos(2^k pi x), for each k and axis."""

    frequencies: Tensor

    def __init__(self, config: FrequencyConfig) -> None:
        super().__init__()
        self.config = config
        self.num_features = 3 + 6 * config.num_frequencies
        self.register_buffer("frequencies", math.pi * 2.0 ** torch.arange(config.num_frequencies), persistent=False)

    @property
    def backend(self) -> FieldBackend:
        """What computes the features, and the networks behind them: as configured, but on a CPU PyTorch."""
        return "triton" if uses_triton(self.config.backend, self.frequencies) else "torch"

    def set_step(self, step: int) -> None:
        """All frequencies are on at every step."""

    def forward(
        self, points: Float[Tensor, "N 3"], known: Tensor | None = None, limit: Int[Tensor, ""] | None = None
    ) -> Float[Tensor, "N F"]:
        """Features of points in [0, 1]^3; after `limit` of them Triton's kernel may give anything."""
        if self.backend == "triton" and not points.requires_grad:
            kernels = find_kernels(self.backend, "hash3d.representations", "frequency", points)
            assert kernels is not None
            encoded: Tensor = kernels.encode(points, self.frequencies, limit)
            return encoded
        centred = 2.0 * points - 1.0
        angles = (centred[:, None, :] * self.frequencies[:, None]).flatten(1)
        return torch.cat([centred, angles.sin(), angles.cos()], dim=-1)
