"""What a guidance is: a frozen configuration that builds a callable, which turns rendered images into a loss."""

from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.cameras import Cameras
from hash3d.diffusion.noise import Timesteps
from hash3d.stopwatch import Stopwatch

Images = Float[Tensor, "B H W C"]
"""In [0, 1], or latents where a guidance expects them."""


@dataclass(frozen=True, kw_only=True)
class GuidanceOutput:
    """The loss of a batch of images."""

    loss: Float[Tensor, ""]
    passes: int
    """U-Net passes that it took, full or shallow, counted per view."""
    metrics: dict[str, float] = field(default_factory=dict)
    predicted: Tensor | None = None
    """What must be finite for the views to be guided; None: the loss."""

    @property
    def finite(self) -> Bool[Tensor, ""]:
        """Whether the views were guided, on the device: a sum is not finite if one of its numbers is not."""
        total = (self.loss if self.predicted is None else self.predicted).detach().sum(dtype=torch.float32)
        return total * 0.0 == 0.0


@runtime_checkable
class Guidance(Protocol):
    """Computes a loss of rendered images whose gradient improves them."""

    def __call__(
        self, image: Images, cameras: Cameras, timesteps: Timesteps, *, step: int | None = None
    ) -> GuidanceOutput:
        """The loss of B renders seen by `cameras`, with noise of the given timesteps.

        `step` is the run's, for schedules.
        """


@runtime_checkable
class ReferenceImage(Protocol):
    """The image that a run starts from."""

    @property
    def elevation(self) -> float:
        """Degrees above the horizon from which it was taken; its azimuth is 0."""

    @property
    def radius(self) -> float:
        """Distance of its camera from the origin, in scene units."""

    def on_white(self, size: int) -> Float[Tensor, "1 3 S S"]:
        """The image on white at `size` pixels a side, in [0, 1]."""


@dataclass(frozen=True, kw_only=True)
class GuidanceInputs:
    """What a run gives to each guidance that it builds."""

    prior: Any = None
    """What the configuration's `load_prior` returned; None where the recipe names no prior for this guidance."""
    reference: ReferenceImage | None = None
    prompt: str | None = None
    negative_prompt: str = ""
    generator: torch.Generator
    """Samples the noise, on the CPU."""
    cache: FeatureCache | None = None
    """Of the prior's U-Net; None without feature reuse."""
    stopwatch: Stopwatch | None = None


@runtime_checkable
class GuidanceConfig(Protocol):
    """The settings of a guidance: a frozen dataclass, of this package or of any other."""

    @property
    def shared_timestep(self) -> bool:
        """Whether all views of a step have the same timestep."""

    def timestep_range(self, step: int, num_timesteps: int) -> tuple[int, int]:
        """The lowest and highest timestep at a step, both included, of a model with `num_timesteps`."""

    def load_prior(self, name: str, device: torch.device, *, pose: str = "auto") -> Any:
        """Load the diffusion model, a `LatentPrior`, by the folder or name that the recipe gives.

        `pose` is the recipe's convention of Zero123's pose numbers; other models ignore it.
        """

    def build(self, inputs: GuidanceInputs) -> Guidance:
        """The guidance. Raises `ValueError` for inputs that it misses."""
