"""All that a run is, frozen: the recipe of a system. Two equal recipes make the same run."""

from dataclasses import dataclass, field, replace
from pathlib import Path

from hash3d.cache import CacheConfig, Hash3DConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.pictures import Framing
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.schedules import Schedule, constant

from .draws import DrawOrderConfig


def expect_steps(steps: int | None) -> None:
    """Raise `ValueError` for fewer than 1; None stands for a recipe's own number."""
    if steps is not None and steps < 1:
        raise ValueError(f"Expected at least 1 step, but got {steps}. Pass --steps with a positive number.")


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses over the steps."""

    guidance: Schedule = field(default_factory=lambda: constant(0.1))
    """Of the SDS loss of the random view."""
    color: Schedule = field(default_factory=lambda: constant(500.0))
    """Of the mean squared colour error of the reference view."""
    mask: Schedule = field(default_factory=lambda: constant(50.0))
    """Of the mean squared alpha error of the reference view."""
    opaque: Schedule = field(default_factory=lambda: constant(0.0))
    """Of the mean of alpha (1 - alpha) over the random view: against fog."""
    scale: Schedule = field(default_factory=lambda: constant(0.0))
    """Of the mean squared excess of Gaussians' longest axes over `scale_limit`: against needles and balloons."""
    scale_limit: float = 0.05
    """Longest axis in scene units that costs nothing."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One optimisation of one representation."""

    steps: int
    """Optimisation steps."""
    cameras: CameraSamplerConfig
    """Where the random views lie."""
    draws: DrawOrderConfig = field(default_factory=DrawOrderConfig)
    """In which order cameras and timesteps are drawn."""
    size: Schedule
    """Pixels a side of the random view over the steps; the value of the last knot passed is rounded down."""
    reference_size: Schedule = field(default_factory=lambda: constant(256))
    """Pixels a side of the reference view over the steps; without a picture it has no use."""
    representation: GaussiansConfig
    densify: DensifyConfig | None
    """How Gaussians are added and removed; None keeps their number."""
    renderer: SplatRendererConfig
    guidance: Zero123GuidanceConfig | StableDiffusionGuidanceConfig
    losses: LossWeights
    adam_betas: tuple[float, float] = (0.9, 0.99)

    def __post_init__(self) -> None:
        expect_steps(self.steps)


def returning_to(stage: Stage, cache: CacheConfig | None) -> Stage:
    """The stage with draws that return to the cells of a cache's grid, if the cache has one."""
    if not isinstance(cache, Hash3DConfig):
        return stage
    return replace(stage, draws=replace(stage.draws, cells=cache.grid))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A system with its input: a picture, a text, or both."""

    system: str
    prior: str
    """A folder, an embedded prior's name, or a hub name."""
    image: Path | None = None
    """The reference picture."""
    prompt: str | None = None
    """What to make."""
    negative_prompt: str = ""
    """What it should not look like."""
    framing: Framing = "auto"
    """Whether the picture is brought to the prior's framing: auto, keep or recentre."""
    reference_elevation: float = 5.0
    """Elevation in degrees from which the picture was taken, and from which the result is shown."""
    seed: int = 0
    stage: Stage
    cache: CacheConfig | None = None
    """Feature reuse; None runs the whole U-Net at every step."""
    checkpoint_every: int = 50
    """Steps between two checkpoints."""

    def __post_init__(self) -> None:
        if not -90.0 <= self.reference_elevation <= 90.0:
            raise ValueError(f"Expected an elevation between -90 and 90, but got {self.reference_elevation}.")
