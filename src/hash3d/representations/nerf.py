"""Radiance fields: density and colour anywhere in a cube, from an encoding and two small networks without bias.

The layout is threestudio's (28d9d80, models/geometry/implicit_volume.py); no colour depends on the direction of view.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from hash3d.ranges import expect_range

from .encodings import FrequencyConfig, HashGridConfig
from .optimizer import ParameterGroup, Trainable
from .relu_network import evaluate


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


@dataclass(frozen=True, kw_only=True)
class NerfConfig:
    """What every field has; `HashGridNerfConfig`, `VanillaNerfConfig` and `LatentNerfConfig` are the ones to build.

    Args:
        encoding: The encoding of a position, which is the networks' input.
        radius: Half the side in scene units of the cube that holds the scene.
        hidden_layers: Hidden layers of the density and of the colour network.
        hidden_width: Width of a hidden layer.
        channels: Channels of the colour: 3 for RGB, 4 for latents of Stable Diffusion.
        color_activation: sigmoid for colours in [0, 1]; none for latents.
        density_activation: Maps the network's output plus the blob to a density of at least 0.
        blob: The start: magic3d adds scale (1 - |x| / std), dreamfusion scale exp(-|x|^2 / (2 std^2)), before the
            activation (threestudio 28d9d80, models/geometry/implicit_volume.py).
        blob_scale: Height of the blob at the origin; 0 for none.
        blob_std: Size of the blob in scene units.
        encoding_lr: Learning rate of the encoding.
        density_lr: Learning rate of the density network (0.001 in Magic123).
        color_lr: Learning rate of the colour network (0.001 in Magic123).
        warmup_steps: Steps over which the learning rates rise linearly from a tenth.
        lr_decay: Factor of the learning rates at `lr_steps`, reached log-linearly; constant after.
        lr_steps: Step at which the learning rates are at their last value.
        adam_eps: Adam's epsilon (1e-8 in Zero-123 NeRF and Magic123).
    """

    encoding: HashGridConfig | FrequencyConfig = field(default_factory=HashGridConfig)
    radius: float = 1.0
    hidden_layers: int = 1
    hidden_width: int = 64
    channels: int = 3
    color_activation: Literal["sigmoid", "none"] = "sigmoid"
    density_activation: Literal["softplus", "trunc_exp"] = "softplus"
    blob: Literal["magic3d", "dreamfusion"] = "magic3d"
    blob_scale: float = 10.0
    blob_std: float = 0.5
    encoding_lr: float = 0.01
    density_lr: float = 0.01
    color_lr: float = 0.01
    warmup_steps: int = 0
    lr_decay: float = 1.0
    lr_steps: int = 10_000
    adam_eps: float = 1e-15

    def __post_init__(self) -> None:
        expect_range(self, "radius blob_std lr_decay encoding_lr density_lr color_lr", above=0)
        expect_range(self, "hidden_layers hidden_width channels", at_least=1)
        expect_range(self, "warmup_steps", at_least=0, below=self.lr_steps)

    def build(self, generator: torch.Generator) -> "Nerf":
        """Build a new field; every number comes from `generator` (on the CPU)."""
        return Nerf(self, generator)


@dataclass(frozen=True, kw_only=True)
class HashGridNerfConfig(NerfConfig):
    """A field on a hash grid, as in DreamFusion, Magic3D, Zero-123 and Magic123 of threestudio."""

    radius: float = 2.0


@dataclass(frozen=True, kw_only=True)
class VanillaNerfConfig(NerfConfig):
    """A field on sines and cosines with deep networks, smooth and slow (Stable-DreamFusion 0198976, nerf/network)."""

    encoding: HashGridConfig | FrequencyConfig = field(default_factory=FrequencyConfig)
    hidden_layers: int = 3
    hidden_width: int = 96
    encoding_lr: float = 0.001
    density_lr: float = 0.001
    color_lr: float = 0.001


@dataclass(frozen=True, kw_only=True)
class LatentNerfConfig(NerfConfig):
    """A field of Stable Diffusion's latents (Metzer et al. 2023; threestudio 28d9d80, configs/latentnerf.yaml)."""

    channels: int = 4
    color_activation: Literal["sigmoid", "none"] = "none"
    density_activation: Literal["softplus", "trunc_exp"] = "trunc_exp"
    blob: Literal["magic3d", "dreamfusion"] = "dreamfusion"
    blob_scale: float = 5.0
    blob_std: float = 0.2
    warmup_steps: int = 100
    lr_decay: float = 0.1


class Nerf(Trainable):
    """A trainable field."""

    def __init__(self, config: NerfConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config, self.adam_eps = config, config.adam_eps
        self.radius, self.channels = config.radius, config.channels
        self.encoding = config.encoding.build(generator)
        widths = [self.encoding.num_features, *[config.hidden_width] * config.hidden_layers]
        self.density_network = build_network([*widths, 1], generator)
        self.color_network = build_network([*widths, config.channels], generator)

    def set_step(self, step: int) -> None:
        """Switch on what the encoding has at `step`. Call it at the start of each step."""
        self.encoding.set_step(step)

    def density(self, points: Float[Tensor, "N 3"], limit: Int[Tensor, ""] | None = None) -> Float[Tensor, " N"]:
        """Return the density at world positions, in 1 / scene unit.

        `limit` says on the device how many of the points count: Triton's kernels, then without derivatives, leave out
        the others.
        """
        return self.look(points, limit=limit)[0]

    def look(
        self,
        points: Float[Tensor, "N 3"],
        known: Sequence[Tensor | None] = (None, None),
        limit: Int[Tensor, ""] | None = None,
    ) -> tuple[Float[Tensor, " N"], list[Tensor]]:
        """Return the density, and what it took, a row a point: `known` for the same points and parameters."""
        features = self.encoding(self._in_unit_cube(points), known[0], limit)
        raw = evaluate(self.density_network, features, self.encoding.backend, known[1], limit)
        return self._activate(raw[:, 0] + self._blob(points)), [features, raw]

    def forward(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N C"]:
        """Return the colour at world positions, without the density: the colour field of a mesh."""
        return self._color(self.encoding(self._in_unit_cube(points)))

    def query(
        self, points: Float[Tensor, "N 3"], *, normals: bool = False, known: Sequence[Tensor | None] = (None, None)
    ) -> FieldSamples:
        """Return density, colour and, if asked, normals, through which losses train the density.

        `known` is what `look` has returned, for kernels to do without; of no use with normals.
        """
        if normals:
            features, density, gradient = self._density_and_gradient(points)
            normal = -F.normalize(gradient, dim=-1)
            return FieldSamples(density=density, color=self._color(features), normal=normal)
        density, (features, _) = self.look(points, known)
        return FieldSamples(density=density, color=self._color(features))

    def normals(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Return unit vectors against the gradient of the density, out of the scene. Zero where the density is flat."""
        return -F.normalize(self._density_and_gradient(points)[2], dim=-1)

    def _in_unit_cube(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        return 0.5 * (points / self.radius + 1.0)

    def _activate(self, raw: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
        return F.softplus(raw) if self.config.density_activation == "softplus" else trunc_exp(raw)

    def _blob(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        scale, std = self.config.blob_scale, self.config.blob_std
        if self.config.blob == "magic3d":
            return scale * (1.0 - points.norm(dim=-1) / std)
        return scale * torch.exp(-points.square().sum(dim=-1) / (2.0 * std**2))

    def _color(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N C"]:
        raw = evaluate(self.color_network, features, self.encoding.backend)
        return raw.sigmoid() if self.config.color_activation == "sigmoid" else raw

    def _density_and_gradient(
        self, points: Float[Tensor, "N 3"]
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, " N"], Float[Tensor, "N 3"]]:
        """Return features, densities and the densities' gradients in the points, all differentiable in parameters."""
        blob, backward_blob, *_ = torch.func.vjp(self._blob, points)
        features, value, slope = self.encoding.value_and_gradient(self._in_unit_cube(points), self.density_network)
        raw = value + blob
        derivative = raw.sigmoid() if self.config.density_activation == "softplus" else raw.clamp(max=15.0).exp()
        by_points = backward_blob(torch.ones_like(blob))[0] + slope * (0.5 / self.radius)
        return features, self._activate(raw), derivative[:, None] * by_points

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the groups "encoding" (if it has parameters), "density" and "color", with the rates at step 0."""
        parts = {"encoding": self.encoding, "density": self.density_network, "color": self.color_network}
        rates = self.learning_rates(0)
        groups: list[ParameterGroup] = [
            {"name": name, "params": list(part.parameters()), "lr": rates[name]} for name, part in parts.items()
        ]
        return [group for group in groups if group["params"]]

    def learning_rates(self, step: int) -> dict[str, float]:
        """Return the learning rates at `step`: a linear rise from a tenth, then a log-linear fall, then constant."""
        config = self.config
        rise = 1.0 if step >= config.warmup_steps else 0.1 + 0.9 * step / config.warmup_steps
        share = (min(max(step, config.warmup_steps), config.lr_steps) - config.warmup_steps) / (
            config.lr_steps - config.warmup_steps
        )
        factor = rise * math.exp(share * math.log(config.lr_decay))
        return {name: factor * getattr(config, f"{name}_lr") for name in ("encoding", "density", "color")}


def build_network(widths: list[int], generator: torch.Generator) -> nn.Sequential:
    """Build linear layers without bias between `widths`, ReLU between them, uniform in +-1 / sqrt(inputs)."""
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layer = nn.utils.skip_init(nn.Linear, inputs, outputs, bias=False)
        bound = 1.0 / math.sqrt(inputs)
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def trunc_exp(x: Float[Tensor, " N"]) -> Float[Tensor, " N"]:
    """Return exp(x), whose derivative clamps the exponent to 15 (torch-ngp's trunc_exp, as in threestudio)."""
    result: Tensor = _TruncatedExponential.apply(x)  # type: ignore[no-untyped-call]
    return result


class _TruncatedExponential(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp()

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grad_outputs[0] * x.clamp(max=15.0).exp()
