"""Gaussians as a field: density and colour at any point, so that a surface can be extracted and painted.

DreamGaussian 69a3c70, gs_renderer.py `extract_fields`: the density at x is the sum of the Gaussians' opacities, each
times exp(-d^2 / 2) at its Mahalanobis distance d; Gaussians with an opacity of 0.005 or less are left out. There a
block of the grid sees the Gaussians centred in 1.5 times its size; here it sees all that reach it.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.rendering._torch_splat import rotation_matrices
from hash3d.representations.gaussians import GaussianTensors

MIN_OPACITY = 0.005
"""Gaussians of this opacity or less are left out."""
NEGLIGIBLE = 1e-3
"""A Gaussian may be left out where it adds less than this to the density."""
FARTHEST = 60.0
"""Squared Mahalanobis distances are clamped here, as exp is ten times slower where it underflows."""
NOTHING = 1e-9
"""Where the density is this or less, all Gaussians are too far to give a colour."""
POINTS_AT_ONCE = 512
"""Points that share one list of near Gaussians."""


class GaussianField:
    """Density and colour of N Gaussians, without gradients. Fastest if POINTS_AT_ONCE points in a row lie together."""

    def __init__(self, gaussians: GaussianTensors) -> None:
        """Raises `ValueError` if no Gaussian is opaque enough to count."""
        kept = gaussians.opacities.detach() > MIN_OPACITY
        if not bool(kept.any()):
            raise ValueError(f"Expected some Gaussian with an opacity above {MIN_OPACITY}, but none has. Train longer.")
        self.means = gaussians.means.detach()[kept]
        self.colors = gaussians.colors.detach()[kept]
        self._opacities = gaussians.opacities.detach()[kept]
        rotations = rotation_matrices(gaussians.quats.detach()[kept])
        scales = gaussians.scales.detach()[kept]
        self._whitening = rotations.transpose(1, 2) / scales[:, :, None]
        deviations = (rotations * scales[:, None, :]).square().sum(dim=-1).sqrt()
        reach = (2.0 * (self._opacities / NEGLIGIBLE).log()).sqrt()
        lower, upper = self.means - reach[:, None] * deviations, self.means + reach[:, None] * deviations
        self._bounds = torch.cat([lower, -upper], dim=-1).T.contiguous()

    @property
    def box(self) -> Float[Tensor, "2 3"]:
        """Corners, in scene units, of the box beyond which no Gaussian adds more than NEGLIGIBLE."""
        lower, upper = self._bounds.amin(dim=-1).split(3)
        return torch.stack([lower, -upper])

    def density(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Sum the opacities at points in scene units, up to NEGLIGIBLE for each Gaussian that is left out."""
        return torch.cat([self.means.new_zeros(0), *(weights.sum(dim=-1) for _, weights in self._weights(points))])

    def color(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Average the Gaussians' RGB, weighted by what they add to the density; beyond their reach take the nearest."""
        points, rows = points.to(self.means), [self.means.new_zeros(0, 3)]
        for near, weights in self._weights(points):
            total = weights.sum(dim=-1, keepdim=True)
            rows.append(torch.where(total > NOTHING, weights @ self.colors[near] / total, torch.nan))
        colors = torch.cat(rows)
        lost = colors[:, 0].isnan().nonzero()[:, 0]
        for chunk in lost.split(POINTS_AT_ONCE):
            colors[chunk] = self.colors[torch.cdist(points[chunk], self.means).argmin(dim=-1)]
        return colors

    def _weights(self, points: Float[Tensor, "N 3"]) -> Iterator[tuple[Int[Tensor, " M"], Float[Tensor, "P M"]]]:
        """Yield for each chunk of points the Gaussians that reach its box, and what each adds at each point."""
        for chunk in points.to(self.means).split(POINTS_AT_ONCE) if len(points) else ():
            low, high = chunk.amin(dim=0), chunk.amax(dim=0)
            near = (self._bounds < torch.cat([high, -low])[:, None]).all(dim=0).nonzero()[:, 0]
            whitening, center = self._whitening[near], 0.5 * (low + high)
            offsets = torch.einsum("mij,mj->im", whitening, self.means[near] - center)
            squared = torch.zeros(len(chunk), len(near)).to(self.means)
            for axis in range(3):
                distances = torch.addmm(-offsets[axis], chunk - center, whitening[:, axis].T)
                squared.addcmul_(distances, distances)
            yield near, squared.clamp_(max=FARTHEST).mul_(-0.5).exp_().mul_(self._opacities[near])
