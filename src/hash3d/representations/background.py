"""Backgrounds: one colour, or a small network of a ray's direction."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.ranges import expect_range

from .nerf import build_network
from .optimizer import ParameterGroup

WHITE_AND_BLACK = ((1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
"""As RGB; latents have others."""


@dataclass(frozen=True, kw_only=True)
class SolidBackgroundConfig:
    """White or black.

    Args:
        color: The colour, and that of an evaluation.
        other_share: Share of the steps that have the other one (0.5 in DreamGaussian 69a3c70, configs/image_sai.yaml).
    """

    color: Literal["white", "black"] = "white"
    other_share: float = 0.0

    def __post_init__(self) -> None:
        expect_range(self, "other_share", at_least=0, at_most=1)

    def build(self, colors: Float[Tensor, "2 C"], generator: torch.Generator) -> "SolidBackground":
        """Build the background, `colors` being white and black; it has no parameters to initialise."""
        return SolidBackground(self, colors)


@dataclass(frozen=True, kw_only=True)
class EnvironmentConfig:
    """A learned environment at infinity; the defaults are threestudio's neural environment map.

    28d9d80, models/background/neural_environment_map_background.py: bands 0, 1 and 2 of spherical harmonics, then a
    network.

    Args:
        hidden_layers: Hidden layers of the network.
        hidden_width: Width of a hidden layer.
        color_activation: sigmoid for colours in [0, 1]; none for latents.
        lr: Learning rate of the network.
        solid_share: Share of the steps on which all views have solid black or white instead, by a fair coin (0.8 in the
            Gaussian Splatting extension of threestudio, configs/gaussian_splatting_shading.yaml).
    """

    hidden_layers: int = 2
    hidden_width: int = 16
    color_activation: Literal["sigmoid", "none"] = "sigmoid"
    lr: float = 0.001
    solid_share: float = 0.0

    def __post_init__(self) -> None:
        expect_range(self, "hidden_layers hidden_width", at_least=1)
        expect_range(self, "lr", above=0)
        expect_range(self, "solid_share", at_least=0, at_most=1)

    def build(self, colors: Float[Tensor, "2 C"], generator: torch.Generator) -> "Environment":
        """Build a new environment, `colors` being white and black; every number comes from `generator` (on the CPU)."""
        return Environment(self, colors, generator)


class SolidBackground(nn.Module):
    """One colour everywhere."""

    colors: Tensor

    def __init__(self, config: SolidBackgroundConfig, colors: Float[Tensor, "2 C"]) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("colors", colors if config.color == "white" else colors.flip(0), persistent=False)

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "B C"]:
        """Sample the colour of a training step's `count` views: one for all."""
        share = self.config.other_share
        other = share > 0.0 and bool(torch.rand((), generator=generator) < share)
        return self.colors[int(other)].repeat(count, 1)

    def forward(self, cameras: Cameras) -> Float[Tensor, "B C"]:
        """Return the colour of each view, the same for all."""
        return self.colors[:1].repeat(len(cameras), 1)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return no group: nothing is trained."""
        return []


class Environment(nn.Module):
    """A trainable colour, or latent, for each direction."""

    colors: Tensor

    def __init__(self, config: EnvironmentConfig, colors: Float[Tensor, "2 C"], generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("colors", colors, persistent=False)
        self.network = build_network([9, *[config.hidden_width] * config.hidden_layers, colors.shape[1]], generator)

    def draw(self, count: int, generator: torch.Generator) -> Float[Tensor, "B C"] | None:
        """Sample the solid colour of a training step's `count` views, or None: they show the environment.

        Two numbers come from `generator` (on the CPU) if `solid_share` is above 0.
        """
        if self.config.solid_share == 0.0:
            return None
        chance, coin = torch.rand(2, generator=generator).tolist()
        return self.colors[int(coin >= 0.5)].repeat(count, 1) if chance < self.config.solid_share else None

    def forward(self, cameras: Cameras) -> Float[Tensor, "B H W C"]:
        """Return one colour a pixel."""
        weight = next(self.network.parameters())
        _, directions = cameras.rays(weight.device)
        raw: Tensor = self.network(spherical_harmonics(directions.to(weight)))
        return raw.sigmoid() if self.config.color_activation == "sigmoid" else raw

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the group "background"."""
        return [{"name": "background", "params": list(self.parameters()), "lr": self.config.lr}]


def spherical_harmonics(directions: Float[Tensor, "*N 3"]) -> Float[Tensor, "*N 9"]:
    """Evaluate the 9 real spherical harmonics of bands 0, 1 and 2 at unit vectors, all with plus (Sloan 2008, A2)."""
    x, y, z = directions.unbind(-1)
    bands = [
        math.sqrt(1.0 / 4.0) * torch.ones_like(x),
        *(math.sqrt(3.0 / 4.0) * axis for axis in (y, z, x)),
        *(math.sqrt(15.0 / 4.0) * pair for pair in (x * y, y * z, z * x)),
        math.sqrt(5.0 / 16.0) * (3.0 * z * z - 1.0),
        math.sqrt(15.0 / 16.0) * (x * x - y * y),
    ]
    return torch.stack(bands, dim=-1) / math.sqrt(math.pi)


def is_mixed(config: object) -> bool:
    """Whether a background is one colour at some steps and an image at others."""
    share: float = getattr(config, "solid_share", 0.0)
    return share > 0.0
