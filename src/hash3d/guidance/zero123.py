"""Guidance by one image and a relative pose: SDS with Zero123 or Stable-Zero123."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.cache.calls import describe, digest
from hash3d.cameras import Cameras
from hash3d.diffusion.noise import Latents, Timesteps
from hash3d.diffusion.pose import pose_numbers
from hash3d.diffusion.zero123 import ImageCondition, Zero123Prior
from hash3d.schedules import Schedule, ramp
from hash3d.stopwatch import Stopwatch

from .base import GuidanceInputs
from .latent_guidance import LatentGuidance, LatentGuidanceConfig, load_latent_prior


@dataclass(frozen=True, kw_only=True)
class Zero123GuidanceConfig(LatentGuidanceConfig):
    """SDS with Zero123. Defaults: threestudio 28d9d80, configs/stable-zero123.yaml."""

    guidance_scale: float = 3.0
    min_timestep: Schedule = field(default_factory=lambda: ramp((50, 0.7), (200, 0.3)))
    max_timestep: Schedule = field(default_factory=lambda: ramp((50, 0.98), (200, 0.8)))

    def load_prior(self, name: str, device: torch.device, *, pose: str = "auto") -> Zero123Prior:
        """Load a Zero123 by its folder or name; "auto" finds the pose convention from what is known of it."""
        return load_latent_prior(Zero123Prior, name, device, name=name, pose_variant=None if pose == "auto" else pose)

    def build(self, inputs: GuidanceInputs) -> "Zero123Guidance":
        """The guidance by the run's reference image. Raises `ValueError` without one, or without a Zero123."""
        prior, reference = inputs.prior, inputs.reference
        if not isinstance(prior, Zero123Prior) or reference is None:
            raise ValueError(
                f"Expected a Zero123 prior and a reference image, but got {type(prior).__name__} and "
                f"{'no image' if reference is None else 'an image'}. Give the recipe both."
            )
        return Zero123Guidance(
            self, prior, reference.on_white(prior.image_size)[0] * 2.0 - 1.0,
            reference_elevation=reference.elevation, reference_radius=reference.radius,
            generator=inputs.generator, cache=inputs.cache, stopwatch=inputs.stopwatch,
        )  # fmt: skip


class Zero123Guidance(LatentGuidance[Zero123Prior]):
    """Says how an image from a new camera should change, given the reference image.

    Args:
        prior: the diffusion model.
        reference: the reference image on white, [3, S, S] in [-1, 1] with S the prior's size.
        reference_elevation: degrees; azimuths of the cameras count from the reference view.
        reference_radius: distance of the reference camera in scene units.
        generator: samples the noise, on the CPU.
        cache: of the prior's U-Net, or None.
    """

    def __init__(
        self,
        config: Zero123GuidanceConfig,
        prior: Zero123Prior,
        reference: Float[Tensor, "3 S S"],
        *,
        reference_elevation: float,
        reference_radius: float,
        generator: torch.Generator,
        cache: FeatureCache | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> None:
        super().__init__(config, prior, generator=generator, cache=cache, stopwatch=stopwatch)
        self.reference_elevation, self.reference_radius = reference_elevation, reference_radius
        with torch.no_grad():
            self.condition: ImageCondition = prior.condition(reference[None].to(prior.device))
        self._scope = digest(describe(reference.cpu()), reference_elevation, reference_radius, prior.pose_variant)

    @property
    def scope(self) -> object:
        """The reference image and its camera."""
        return self._scope

    def inputs(self, noisy: Latents, timesteps: Timesteps, cameras: Cameras) -> dict[str, Any]:
        """The reference image, and the cameras' poses relative to it."""
        condition = self.condition.expand(len(cameras))
        return self.prior.make_guided_inputs(noisy, timesteps, condition, self.pose(cameras))

    def pose(self, cameras: Cameras) -> Float[Tensor, "B 4"]:
        """The cameras' pose numbers relative to the reference view."""
        return pose_numbers(
            elevation=cameras.elevation,
            relative_azimuth=cameras.azimuth,
            relative_radius=cameras.radius - self.reference_radius,
            reference_elevation=self.reference_elevation,
            variant=self.prior.pose_variant,
        )
