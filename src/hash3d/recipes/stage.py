"""One optimisation of one representation, frozen."""

from dataclasses import dataclass, field, replace

from hash3d.cache import CacheConfig, Hash3DConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.fast.autoencoder import Encoding
from hash3d.guidance.denoise import DenoiseGuidanceConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.rendering.raster import RasterRendererConfig
from hash3d.rendering.shading import ShadingConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import EnvironmentConfig, SolidBackgroundConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig, NerfConfig, VanillaNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.representations.point_start import GrowthConfig
from hash3d.representations.textured_mesh import TexturedMeshConfig
from hash3d.schedules import Schedule, constant

from .loss_weights import LossWeights
from .view_order import DrawOrderConfig

FieldConfig = HashGridNerfConfig | VanillaNerfConfig | LatentNerfConfig
RepresentationConfig = GaussiansConfig | FieldConfig | DmtetMeshConfig | TexturedMeshConfig
RendererConfig = SplatRendererConfig | VolumeRendererConfig | RasterRendererConfig
GuidanceConfig = Zero123GuidanceConfig | StableDiffusionGuidanceConfig | DenoiseGuidanceConfig
BackgroundConfig = SolidBackgroundConfig | EnvironmentConfig


def expect_steps(steps: int | None) -> None:
    """Raise `ValueError` for fewer than 1; None stands for a recipe's own number."""
    if steps is not None and steps < 1:
        raise ValueError(f"Expected at least 1 step, but got {steps}. Pass --steps with a positive number.")


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
    representation: RepresentationConfig
    """What is optimised. A second stage starts from the first one's result (`training.model`)."""
    surface: IsosurfaceConfig | None = None
    """Which surface the result has, for the next stage and for an exported mesh; None takes the usual one."""
    growth: GrowthConfig | None = None
    """How points grow around the surface of the stage before, where Gaussians start from it; None: they do not."""
    densify: DensifyConfig | None = None
    """How Gaussians are added and removed; None keeps their number."""
    renderer: RendererConfig
    """Draws the representation: splats for Gaussians, rays for fields, triangles for meshes."""
    occupancy: OccupancyGridConfig | None = None
    """The cells of a field that rays skip; None skips none."""
    shading: ShadingConfig | None = None
    """Light on random views; None shows colours as they are."""
    background: BackgroundConfig = field(default_factory=SolidBackgroundConfig)
    """What lies behind random views. Reference and final views are on white."""
    guidance: GuidanceConfig
    """What the diffusion model is asked: Zero123 where the recipe has a picture, else Stable Diffusion."""
    text_guidance: StableDiffusionGuidanceConfig | None = None
    """What a second diffusion model is asked, by text, where the recipe has a picture and a prompt (Magic123)."""
    losses: LossWeights
    adam_betas: tuple[float, float] = (0.9, 0.99)
    cache: CacheConfig | None = None
    """In place of the recipe's cache, if that is on: DeepCache where one picture is denoised in several passes."""

    def __post_init__(self) -> None:
        expect_steps(self.steps)
        if isinstance(self.representation, GaussiansConfig):
            renderer: type[RendererConfig] = SplatRendererConfig
        else:
            renderer = VolumeRendererConfig if isinstance(self.representation, NerfConfig) else RasterRendererConfig
        if not isinstance(self.renderer, renderer):
            raise ValueError(
                f"Expected a {renderer.__name__} for a {type(self.representation).__name__}, but got a "
                f"{type(self.renderer).__name__}."
            )


def encoding_by(stage: Stage, encoding: Encoding) -> Stage:
    """The stage whose guidances encode pictures in a way; those of rendered latents, which need no encoder, stay."""
    text = None if stage.text_guidance is None else replace(stage.text_guidance, encoding=encoding)
    match stage.guidance:
        case StableDiffusionGuidanceConfig(rendered="latents"):
            return replace(stage, text_guidance=text)
        case DenoiseGuidanceConfig(guidance=inner):
            guidance: GuidanceConfig = replace(stage.guidance, guidance=replace(inner, encoding=encoding))
        case other:
            guidance = replace(other, encoding=encoding)
    return replace(stage, guidance=guidance, text_guidance=text)


def returning_to(stage: Stage, cache: CacheConfig | None) -> Stage:
    """The stage with draws that return to the cells of a cache's grid, if the cache has one."""
    if not isinstance(cache, Hash3DConfig):
        return stage
    return replace(stage, draws=replace(stage.draws, cells=cache.grid))


def scaled_steps(stages: tuple[Stage, ...], steps: int | None) -> tuple[Stage, ...]:
    """Stages of `steps` in all, shared as before; schedules stay. None changes nothing."""
    if steps is None:
        return stages
    counts = shared_steps(steps, *(stage.steps for stage in stages))
    return tuple(replace(stage, steps=count) for stage, count in zip(stages, counts, strict=True))


def shared_steps(steps: int, *shares: int) -> tuple[int, ...]:
    """`steps` for one or two stages in about the proportion of `shares`, at least 1 each."""
    if steps < len(shares):
        raise ValueError(f"Expected at least a step for each of {len(shares)} stages, but got {steps}. Pass --steps 2.")
    first, *others = shares
    if not others:
        return (steps,)
    share = min(max(1, round(steps * first / sum(shares))), steps - 1)
    return share, steps - share
