"""Occupancy of a field's cube: rays skip empty cells (Mueller et al. 2022, appendix C; numbers of nerfacc 0.5.2)."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hash3d.ranges import expect_range
from hash3d.tensors import to_device

from .nerf import Field


@dataclass(frozen=True, kw_only=True)
class OccupancyGridConfig:
    """How fine the grid is and how it follows the field.

    Args:
        resolution: Cells a side of the cube [-radius, radius]^3.
        threshold: A cell whose alpha over one step of a ray exceeds min(threshold, mean alpha) is occupied.
        decay: A cell's alpha is max(decay * old, new): it falls slowly and rises at once.
        update_every: Steps between two updates.
        warmup_steps: Until then an update evaluates all cells; after, a quarter of all, and as many of the occupied.
    """

    resolution: int = 32
    threshold: float = 0.01
    decay: float = 0.95
    update_every: int = 16
    warmup_steps: int = 256

    def __post_init__(self) -> None:
        expect_range(self, "resolution update_every", at_least=1)
        expect_range(self, "threshold", at_least=0)
        expect_range(self, "decay", at_least=0, below=1)

    def build(self, radius: float) -> "OccupancyGrid":
        """Build a grid over [-radius, radius]^3 (scene units), wholly occupied until its first update."""
        return OccupancyGrid(self, radius)


class OccupancyGrid(nn.Module):
    """A cube of cells, each occupied or empty. Its state is in `state_dict`; it has no parameters."""

    alphas: Tensor
    occupied: Tensor

    def __init__(self, config: OccupancyGridConfig, radius: float) -> None:
        super().__init__()
        self.config, self.radius = config, radius
        count = config.resolution**3
        self.register_buffer("alphas", torch.zeros(count))
        self.register_buffer("occupied", torch.ones(count, dtype=torch.bool))

    def contains(self, points: Float[Tensor, "*S 3"]) -> Bool[Tensor, "*S"]:
        """Whether world positions lie in occupied cells. Points outside the cube do not."""
        resolution = self.config.resolution
        cells = ((points / self.radius + 1.0) * (0.5 * resolution)).floor()
        x, y, z = cells.long().clamp(0, resolution - 1).unbind(-1)
        inside = (points.abs() <= self.radius).all(dim=-1)
        return self.occupied[(x * resolution + y) * resolution + z] & inside

    @property
    def min_alpha(self) -> Float[Tensor, ""]:
        """Least alpha of a sample worth rendering: the threshold, or the mean alpha if that is less."""
        return self.alphas.mean().clamp(max=self.config.threshold)

    def after_step(self, step: int, field: Field, step_length: float, generator: torch.Generator) -> None:
        """Update if `step` (from 0) is due; `step_length` is that of a ray's samples."""
        if step % self.config.update_every == 0:
            self.update(field, step_length, generator, every_cell=step < self.config.warmup_steps)

    @torch.no_grad()
    def update(self, field: Field, step_length: float, generator: torch.Generator, *, every_cell: bool = True) -> None:
        """Evaluate a random point of every cell, or of a later update's cells; numbers come from `generator` (CPU)."""
        every = torch.arange(len(self.alphas), device=self.alphas.device)
        cells = every if every_cell else self._sample_cells(generator)
        jitter = to_device(torch.rand(len(cells), 3, generator=generator), self.alphas)
        resolution = self.config.resolution
        corners = torch.stack([cells // resolution**2, cells // resolution % resolution, cells % resolution], dim=-1)
        points = self.radius * (2.0 * (corners + jitter) / resolution - 1.0)
        # Of two samples in one cell the larger counts, and the cell decays once.
        found = torch.zeros_like(self.alphas)
        alphas = 1.0 - torch.exp(-step_length * field.density(points)).to(found)
        found.scatter_reduce_(0, cells, alphas, reduce="amax")
        sampled = torch.zeros_like(self.occupied)
        sampled[cells] = True
        # In place: graphs read both.
        self.alphas.copy_(torch.where(sampled, torch.maximum(self.config.decay * self.alphas, found), self.alphas))
        self.occupied.copy_(self.alphas > self.min_alpha)

    def grow(self) -> None:
        """Occupy the cells beside occupied ones too, where random points have missed what reaches in a little."""
        side = self.config.resolution
        cells = self.occupied.view(side, side, side)
        grown = cells.clone()
        for axis in range(3):
            for here, beside in ((0, 1), (1, 0)):
                grown.narrow(axis, here, side - 1).logical_or_(cells.narrow(axis, beside, side - 1))
        self.occupied = grown.flatten()

    def _sample_cells(self, generator: torch.Generator) -> Int[Tensor, " K"]:
        """Sample a quarter of the cells from all, then as many from the occupied ones."""
        count = max(1, len(self.alphas) // 4)
        anywhere = torch.randint(len(self.alphas), (count,), generator=generator)
        anywhere = to_device(anywhere, self.alphas.device)
        occupied = self.occupied.nonzero()[:, 0]
        if len(occupied) == 0:
            return anywhere
        picks = to_device((torch.rand(count, generator=generator) * len(occupied)).long(), self.alphas.device)
        return torch.cat([anywhere, occupied[picks.clamp(max=len(occupied) - 1)]])
