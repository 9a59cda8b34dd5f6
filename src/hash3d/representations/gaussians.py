"""3D Gaussians with one colour each: their parameters, initialisation and learning rates (Kerbl et al. 2023)."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.ranges import expect_range

from .optimizer import ParameterGroup, Resizable, Trainable

SH_DEGREE_0 = 0.28209479177387814
"""The constant spherical harmonic, 1 / (2 sqrt(pi)): a colour is `0.5 + SH_DEGREE_0 * sh0`."""
HALF_TURN = (-1.0, -1.0, 1.0)
"""Signs that turn positions by 180 degrees around z: between our +y up and the +y down of splat files."""

PARAMETER_NAMES = ("means", "sh0", "opacity_logits", "log_scales", "quats")


@dataclass(frozen=True, kw_only=True)
class GaussianTensors:
    """N Gaussians ready to render: centres and standard deviations in scene units, quaternions, peak opacities, RGB.

    `quats` are rotations (w, x, y, z) of any length but zero, of the axes that `scales` belong to.
    """

    means: Float[Tensor, "N 3"]
    quats: Float[Tensor, "N 4"]
    scales: Float[Tensor, "N 3"]
    opacities: Float[Tensor, " N"]
    colors: Float[Tensor, "N 3"]

    def __len__(self) -> int:
        return self.means.shape[0]

    def gaussians(self) -> "GaussianTensors":
        """Return itself: these are splats."""
        return self


@runtime_checkable
class Splats(Protocol):
    """A scene made of Gaussians."""

    def gaussians(self) -> GaussianTensors:
        """Return the Gaussians of this scene, differentiable in its parameters."""
        ...


@dataclass(frozen=True, kw_only=True)
class GaussiansConfig:
    """Initialisation and learning rates; the defaults are threestudio's (gaussian_splatting_zero123.yaml).

    Args:
        num_points: Gaussians at the start.
        radius: Radius in scene units of the ball that the first Gaussians fill uniformly.
        opacity: Opacity of each Gaussian at the start (0.05 in threestudio, 0.1 in DreamGaussian).
        means_lr: Learning rate of the positions, first and last, in scene units a step; log-linear between
            (DreamGaussian 69a3c70 uses 10 times as much).
        sh0_lr: Learning rate of the colour coefficients, first and last: a fall averages out reused features' noise.
        lr_steps: Step at which the positions and colours reach their last learning rate.
        opacity_lr: Learning rate of the opacities, before the sigmoid.
        scale_lr: Learning rate of the scales, before the exponential.
        quat_lr: Learning rate of the rotations (0.005 in DreamGaussian).
        adam_eps: Adam's epsilon. Gradients of one Gaussian are tiny: Kerbl et al. (2023) use 1e-15; threestudio 1e-8.
        max_points: Densification stops adding at this many Gaussians.
    """

    num_points: int = 4096
    radius: float = 0.5
    opacity: float = 0.1
    means_lr: tuple[float, float] = (1e-3, 2e-5)
    sh0_lr: tuple[float, float] = (0.01, 0.01)
    lr_steps: int = 1000
    opacity_lr: float = 0.05
    scale_lr: float = 0.005
    quat_lr: float = 0.001
    adam_eps: float = 1e-15
    max_points: int = 500_000

    def __post_init__(self) -> None:
        expect_range(self, "num_points", at_least=1, at_most=self.max_points)
        expect_range(self, "opacity", above=0, below=1)
        expect_range(self, "radius means_lr sh0_lr", above=0)
        expect_range(self, "lr_steps", at_least=1)

    def build(self, generator: torch.Generator) -> "Gaussians":
        """Build near-grey Gaussians, uniform in the ball; every number comes from `generator` (on the CPU)."""
        points = sample_ball(self.num_points, self.radius, generator)
        colors = 0.5 + SH_DEGREE_0 * torch.rand(self.num_points, 3, generator=generator) / 255.0
        return Gaussians(self, points, colors)


class Gaussians(Resizable, Trainable):
    """Trainable Gaussians; a checkpoint brings its own N, which `hash3d.representations.densify` changes.

    The parameters are raw: `means` "N 3", `sh0` "N 3" (colour coefficients), `opacity_logits` "N" (before the sigmoid),
    `log_scales` "N 3" (before exp), `quats` "N 4" (not normalised).
    """

    def __init__(self, config: GaussiansConfig, points: Float[Tensor, "N 3"], colors: Float[Tensor, "N 3"]) -> None:
        """Gaussians at `points` (scene units) with `colors` (RGB); the scales follow the distances between points."""
        super().__init__()
        self.config, self.adam_eps = config, config.adam_eps
        count = points.shape[0]
        logit = math.log(config.opacity / (1.0 - config.opacity))
        self.means = nn.Parameter(points.clone())
        self.sh0 = nn.Parameter((colors - 0.5) / SH_DEGREE_0)
        self.opacity_logits = nn.Parameter(torch.full((count,), logit))
        self.log_scales = nn.Parameter(neighbour_distances(points).log()[:, None].repeat(1, 3))
        self.quats = nn.Parameter(torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(count, 1))

    def __len__(self) -> int:
        return self.means.shape[0]

    def gaussians(self) -> GaussianTensors:
        """Return the activated Gaussians. Colours below 0 are clamped, as viewers of exported files do."""
        return GaussianTensors(
            means=self.means,
            quats=self.quats,
            scales=self.log_scales.exp(),
            opacities=self.opacity_logits.sigmoid(),
            colors=(0.5 + SH_DEGREE_0 * self.sh0).clamp(min=0.0),
        )

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return one group a parameter, under the parameter's name, with its learning rate at step 0."""
        config = self.config
        fixed = {"opacity_logits": config.opacity_lr, "log_scales": config.scale_lr, "quats": config.quat_lr}
        rates = self.learning_rates(0) | fixed
        return [{"name": name, "params": [getattr(self, name)], "lr": rates[name]} for name in PARAMETER_NAMES]

    def learning_rates(self, step: int) -> dict[str, float]:
        """Return the learning rates of the positions and colours at `step`: log-linear, then constant."""
        share = min(step / self.config.lr_steps, 1.0)
        ranges = {"means": self.config.means_lr, "sh0": self.config.sh0_lr}
        return {
            name: math.exp((1.0 - share) * math.log(first) + share * math.log(last))
            for name, (first, last) in ranges.items()
        }


def sample_ball(count: int, radius: float, generator: torch.Generator) -> Float[Tensor, "N 3"]:
    """Sample points uniformly in a ball around the origin: cube root of a uniform number times the radius."""
    directions = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return directions * radius * torch.rand(count, 1, generator=generator) ** (1.0 / 3.0)


def neighbour_distances(points: Float[Tensor, "N 3"], num_neighbours: int = 3) -> Float[Tensor, " N"]:
    """Return the root mean squared distance to the nearest neighbours, at least sqrt(1e-7) (simple-knn); alone 0.01."""
    count = min(num_neighbours, points.shape[0] - 1)
    if count < 1:
        return points.new_full((points.shape[0],), 0.01)
    squared = [
        torch.cdist(chunk, points).topk(count + 1, largest=False).values[:, 1:].square().mean(dim=-1)
        for chunk in points.split(1024)
    ]
    return torch.cat(squared).clamp(min=1e-7).sqrt()
