"""One optimisation of one representation, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, runtime_checkable

from hash3d.cache import CacheConfig, Hash3DConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.base import GuidanceConfig
from hash3d.guidance.targets import ReplayConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.ranges import expect_range
from hash3d.rendering.shading import ShadingConfig
from hash3d.representations.background import EnvironmentConfig, SolidBackgroundConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.representations.point_start import GrowthConfig
from hash3d.schedules import Schedule, constant

from .loss_weights import LossWeights
from .view_order import ViewOrderConfig

BackgroundConfig = SolidBackgroundConfig | EnvironmentConfig


@runtime_checkable
class Config(Protocol):
    """A frozen dataclass of settings, of this package or of any other."""

    __dataclass_fields__: ClassVar[dict[str, Any]]


def expect_steps(steps: int | None) -> None:
    """Raise `ValueError` for fewer than 1; None stands for a recipe's own number."""
    if steps is not None and steps < 1:
        raise ValueError(f"Expected at least 1 step, but got {steps}. Pass --steps with a positive number.")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One optimisation of one representation.

    Args:
        steps: Optimisation steps.
        cameras: Where the random views lie.
        view_order: In which order cameras and timesteps are sampled.
        size: Pixels a side of the random view over the steps; the value of the last knot passed is rounded down.
        reference_size: Pixels a side of the reference view over the steps; without a reference image it has no use.
        pixel_stride: Of the pixels of reference views and of replay's targets a step fits one in pixel_stride^2, on a
            lattice at a random place.
        representation: What is optimised, by its `Scene`. A second stage starts from the first's result.
        surface: Which surface the result has, for the next stage and for an exported mesh; None takes the usual one.
        growth: How points grow around the surface of the stage before, where Gaussians start from it; None: not.
        densify: How Gaussians are added and removed; None keeps their number.
        renderer: Renders the representation: splats for Gaussians, rays for fields, triangles for meshes.
        occupancy: The cells of a field that rays skip; None skips none.
        shading: Light on random views; None shows colours as they are.
        background: What lies behind random views. Reference and final views are on white.
        guidances: The guidances by name. Timesteps of the first are sampled; the others get the same share of theirs.
        replay: Denoised views that are kept and fitted many times, made without a cache; None: score distillation only.
        losses: Weights of the losses.
        adam_betas: Adam's betas of the representation.
        cache: In place of the recipe's cache, if that is on: DeepCache where one image is denoised in several passes.
    """

    steps: int
    cameras: CameraSamplerConfig
    view_order: ViewOrderConfig = field(default_factory=ViewOrderConfig)
    size: Schedule
    reference_size: Schedule = field(default_factory=lambda: constant(256))
    pixel_stride: int = 1
    representation: Config
    surface: IsosurfaceConfig | None = None
    growth: GrowthConfig | None = None
    densify: DensifyConfig | None = None
    renderer: Config
    occupancy: OccupancyGridConfig | None = None
    shading: ShadingConfig | None = None
    background: BackgroundConfig = field(default_factory=SolidBackgroundConfig)
    guidances: Mapping[str, GuidanceConfig]
    replay: ReplayConfig | None = None
    losses: LossWeights
    adam_betas: tuple[float, float] = (0.9, 0.99)
    cache: CacheConfig | None = None

    def __post_init__(self) -> None:
        expect_steps(self.steps)
        expect_range(self, "pixel_stride", at_least=1)
        if not self.guidances or self.guidances.keys() != self.losses.guidances.keys():
            names, weights = (", ".join(each) or "none" for each in (self.guidances, self.losses.guidances))
            raise ValueError(
                f"Expected guidances, and a loss weight of each, but got {names} with the weights of {weights}. "
                "Name the same ones in Stage.guidances and LossWeights.guidances."
            )

    @property
    def guidance(self) -> GuidanceConfig:
        """The first guidance, whose timesteps are sampled."""
        return next(iter(self.guidances.values()))

    @property
    def distills(self) -> bool:
        """Whether some of its steps are score distillation, which can reuse features."""
        return self.replay is None or self.replay.until < 1.0

    def prefix(self, name: str) -> str:
        """What the names of a guidance's metrics begin with: nothing for the first, "NAME_" for the others."""
        return "" if name == next(iter(self.guidances)) else f"{name}_"

    def guidance_loss(self, name: str) -> str:
        """The name of a guidance's loss in the metrics."""
        return f"{self.prefix(name)}guidance"


def revisit_cells(stage: Stage, cache: CacheConfig | None) -> Stage:
    """The stage whose views revisit the cells of a cache's grid, if the cache has one."""
    if not isinstance(cache, Hash3DConfig):
        return stage
    return replace(stage, view_order=replace(stage.view_order, grid=cache.grid))


def scale_steps(stages: tuple[Stage, ...], steps: int | None) -> tuple[Stage, ...]:
    """Stages of `steps` in all, in the same proportion; schedules stay. None changes nothing."""
    if steps is None:
        return stages
    counts = split_steps(steps, *(stage.steps for stage in stages))
    return tuple(replace(stage, steps=count) for stage, count in zip(stages, counts, strict=True))


def split_steps(steps: int, *shares: int) -> tuple[int, ...]:
    """`steps` for one or two stages in about the proportion of `shares`, at least 1 each."""
    if steps < len(shares):
        raise ValueError(f"Expected at least a step for each of {len(shares)} stages, but got {steps}. Pass --steps 2.")
    first, *others = shares
    if not others:
        return (steps,)
    share = min(max(1, round(steps * first / sum(shares))), steps - 1)
    return share, steps - share
