"""What recipe files share: the order of views, stages by scale and number of steps, and the recipe made of them.

At mini scale the embedded priors run on a CPU, with settings tuned on their own.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

from hash3d.cache import CacheConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.diffusion.loading import EMBEDDED
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.guidance.targets import ReplayConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.pictures import Framing
from hash3d.recipes.adjust import map_values
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Pose, Recipe
from hash3d.recipes.stage import Stage, expect_steps, scale_steps
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.rendering.raster import RasterRendererConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig, NerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.representations.point_start import GrowthConfig, PointStartConfig
from hash3d.representations.shap_e import ShapEConfig
from hash3d.schedules import constant, ramp

from . import FULL_SCALE_VISITS

VIEW_ORDER = ViewOrderConfig(visits_per_cell=4, active_cells=8)
"""Three of four passes are reused, for a third of the guidance's cost. More visits save little more, and what a run
learns goes with its number of full passes (docs/experiments/frontier.md and variety.md)."""
TEXT_VIEW_ORDER = replace(VIEW_ORDER, visits_per_cell=2)
"""For the text systems at mini scale: a text fixes no view, so a part grows only from full passes that see it. With 2
visits half of the passes are full, and 2 of 28 objects were lost; with 4 visits 1 of 6 (docs/benchmarks/quality.md)."""
TWO_PRIOR_VIEW_ORDER = replace(VIEW_ORDER, visits_per_cell=2)
"""For Magic-123 at mini scale, where two models reuse at once: in the field's stage reuse with 4 visits costs 0.24 dB,
with 2 visits 0.16 (docs/benchmarks/quality.md)."""
NOISIEST = 0.92
"""Targets by an image start from this share of the guidance's most noise up: less would keep the render's faults."""
TOGETHER = 3
"""Targets of replay that are made at once at full scale (docs/benchmarks/systems_full_size.md)."""
TEXT_REPLAY = ReplayConfig(denoising_steps=2, guidance_scale=5.0, kept=8, until=0.5)
"""Replay by a text, at the settings that measured best: young and sharp targets first, then score distillation
(docs/experiments/replay.md)."""
TEXT_ELEVATION = 15.0
"""Degrees from which the result of a text is shown (threestudio's evaluation)."""
BY_TEXT = StableDiffusionGuidanceConfig(guidance_scale=101.0, shared_timestep=False)
"""Full scale of most text systems: threestudio 28d9d80 and the released Hash3D (cc48922)."""
Stages = Stage | tuple[Stage, ...]


class Scales(TypedDict):
    """What makes the stages at each scale."""

    mini: Callable[..., Stages]
    """For an embedded prior on a CPU; called with `steps` where it is given, with which every schedule stretches."""
    supplement: Callable[[], Stages]
    """Full size, as the paper's supplement has it."""
    released: NotRequired[Callable[[], Stages]]
    """Full size, as the authors' code has it, where the two differ."""


class Choices(TypedDict):
    """What every system can be given besides its image or its text."""

    prior: str
    """The main diffusion model, that of the first guidance: a folder, an embedded prior's name, or a hub name."""
    cache: CacheConfig | None
    """Feature reuse; None runs the whole U-Net at every step."""
    scale: NotRequired[str | None]
    """mini, supplement or released; by default mini with an embedded prior, and supplement with any other."""
    steps: NotRequired[int | None]
    """Of all stages; schedules stretch with them at mini scale, and stay at full scale. None: the recipe's own."""
    seed: NotRequired[int]
    """Makes all random numbers."""
    replay_every: NotRequired[int]
    """Steps between two targets of replay; 0, as by default, is score distillation without replay."""


def recipe_at(choices: Choices, scales: Scales, *, priors: Mapping[str, str] | None = None, **fields: Any) -> Recipe:
    """The recipe of some choices; `TypeError` if one of them or of the fields is unknown.

    Args:
        choices: what the user said.
        scales: the system's stages.
        priors: the diffusion models of further guidances, by the guidances' names.
        fields: the other fields of the `Recipe`; without an image `reference_elevation` is `TEXT_ELEVATION`.
    """
    steps = choices.get("steps")
    expect_steps(steps)
    if is_mini(choices):
        stages = _as_tuple(scales["mini"]() if steps is None else scales["mini"](steps))
    else:
        full = {"supplement": scales["supplement"], "released": scales.get("released", scales["supplement"])}
        scale = choices.get("scale") or "supplement"
        if scale not in full:
            raise ValueError(f"Expected --scale to be mini, {' or '.join(full)}, but got {scale!r}.")
        stages = tuple(_visit_less(stage) for stage in scale_steps(_as_tuple(full[scale]()), steps))
    others: dict[str, Any] = {
        name: choice for name, choice in choices.items() if name not in ("prior", "scale", "steps", "replay_every")
    }
    if every := choices.get("replay_every", 0):
        stages = tuple(replay(stage, every, 1 if is_mini(choices) else TOGETHER) for stage in stages)
    if "image" not in fields:
        others["reference_elevation"] = TEXT_ELEVATION
    main = next(iter(stages[0].guidances))
    return Recipe.of(stages, priors={main: choices["prior"], **(priors or {})}, **(others | fields))


def image_recipe(system: str, scales: Scales) -> Callable[..., Recipe]:
    """Make the function `recipe` of a system that starts from an image."""

    def recipe(
        *,
        image: Path,
        elevation: float = 5.0,
        framing: Framing = "auto",
        pose: Pose = "auto",
        **choices: Unpack[Choices],
    ) -> Recipe:
        """The recipe for an image; `steps` is of all stages, and full-scale schedules do not stretch with it."""
        return recipe_at(
            choices, scales, system=system, image=image, framing=framing, pose=pose, reference_elevation=elevation
        )

    return recipe


def text_recipe(system: str, scales: Scales) -> Callable[..., Recipe]:
    """Make the function `recipe` of a system that starts from a text."""

    def recipe(*, prompt: str, negative_prompt: str = "", **choices: Unpack[Choices]) -> Recipe:
        """The recipe for a text; `steps` is of all stages, and full-scale schedules do not stretch with it."""
        return recipe_at(choices, scales, system=system, prompt=prompt, negative_prompt=negative_prompt)

    return recipe


def read_start(
    path: Path | None, prompt: str, growth: GrowthConfig | None, *, size: float
) -> PointStartConfig | ShapEConfig | None:
    """The shape that Gaussians start from: a Shap-E folder asked for the prompt, or a file of points or of a mesh.

    `size` is in scene units: half a side of the cube that holds Shap-E's shapes, or how far a file's points reach from
    the origin. None stays None.
    """
    if path is None:
        return None
    if path.is_dir():
        return ShapEConfig(folder=path, prompt=prompt, scale=size, growth=growth)
    return PointStartConfig(file=path, radius=size, growth=growth)


def replace_by_mesh(field: Stage, steps: int, size: int, mesh: DmtetMeshConfig, losses: LossWeights) -> Stage:
    """A field's stage with a mesh in the field's place, and the same guidances.

    Args:
        field: the stage of the field.
        steps: of the new stage.
        size: of its views and of the reference view, in pixels.
        mesh: what is optimised.
        losses: of the mesh.
    """
    return replace(
        field, steps=steps, size=constant(size), reference_size=constant(size), pixel_stride=1, representation=mesh,
        renderer=RasterRendererConfig(), occupancy=None, losses=losses,
    )  # fmt: skip


def is_mini(choices: Choices) -> bool:
    """Whether the scale, or where none is chosen that of the prior, is the embedded priors' own."""
    scale = choices.get("scale")
    return scale == "mini" or (scale is None and choices["prior"] in EMBEDDED)


def replay(stage: Stage, every: int, together: int = 1) -> Stage:
    """The stage with replay, at the scales that measured best; one that denoises at each step stays as it is.

    A text's targets need guidance, at most at the recipe's own scale, those by an image much noise. A field fits one
    target a step: its rays cost more than the U-Net. `together` is how many targets are made at once, but for a stage's
    batches of views, which stay whole. `ValueError` for several guidances.
    """
    guidance, together = stage.guidance, max(1, together // stage.cameras.batch_size)
    if len(stage.guidances) > 1:
        raise ValueError("Expected one diffusion model for --replay-every: targets of two lose 1.8 dB. Leave it out.")
    if isinstance(guidance, StableDiffusionGuidanceConfig):
        scale = min(guidance.guidance_scale, TEXT_REPLAY.guidance_scale)
        return replace(stage, replay=replace(TEXT_REPLAY, every=every, together=together, guidance_scale=scale))
    if not isinstance(guidance, Zero123GuidanceConfig):
        return stage
    fitted = 1 if stage.occupancy else ReplayConfig.fitted
    least = map_values(guidance.max_timestep, lambda _, share: NOISIEST * share)
    guidances = dict.fromkeys(stage.guidances, replace(guidance, min_timestep=least))
    return replace(stage, guidances=guidances, replay=ReplayConfig(every=every, together=together, fitted=fitted))


def _visit_less(stage: Stage) -> Stage:
    visits = min(stage.view_order.visits_per_cell, FULL_SCALE_VISITS)
    return replace(stage, view_order=replace(stage.view_order, visits_per_cell=visits))


def _as_tuple(made: Stages) -> tuple[Stage, ...]:
    return made if isinstance(made, tuple) else (made,)


MINI_SIZE = 0.5
"""Of the shape that Gaussians start from: the embedded priors' objects lie in a ball of this radius."""
MINI_GRID = HashGridConfig(levels=5, log2_entries=14, base_resolution=8, finest_resolution=64)
"""An encoding that two cores can train."""
MINI_SURFACE = IsosurfaceConfig(level="opaque", resolution=64)
"""The exported mesh of a mini field: some 20,000 faces, unwrapped in seconds."""
MINI_BY_IMAGE = Zero123GuidanceConfig(guidance_scale=2.0, min_timestep=constant(0.6), max_timestep=constant(0.98))


def mini_by_text(steps: int, **own: Any) -> StableDiffusionGuidanceConfig:
    """Guidance by a text whose noise falls over the steps of the stage; `own` replaces or adds settings."""
    return StableDiffusionGuidanceConfig(
        **{"guidance_scale": 10.0, "max_timestep": ramp((0, 0.98), (steps, 0.5)), **own}
    )


def mini_cameras(highest: float = 60.0) -> CameraSamplerConfig:
    """The views that the embedded priors know, up to an elevation in degrees."""
    return CameraSamplerConfig(elevation=(-10.0, highest), radius=1.5, fov_y=49.1)


def mini_field(
    steps: int, lr: float = 0.01, kind: type[HashGridNerfConfig | LatentNerfConfig] = HashGridNerfConfig
) -> NerfConfig:
    """A field that fits the embedded priors' scenes, and is learnt in a few hundred steps; fewer want a larger `lr`.

    The exponential makes a surface of the fog that the softplus would leave after so few steps, and the blob that
    falls without end leaves the cells around it empty, for rays to skip.
    """
    return kind(
        encoding=MINI_GRID, radius=0.6, density_activation="trunc_exp", blob="magic3d", blob_scale=4.0, blob_std=0.4,
        encoding_lr=lr, density_lr=lr, color_lr=lr, warmup_steps=0, lr_decay=0.1, lr_steps=steps, adam_eps=1e-8,
    )  # fmt: skip


def mini_field_stage(steps: int, **own: Any) -> Stage:
    """A stage of a field, whose images grow after half the steps; `own` replaces or adds settings.

    A quarter of the pixels of the reference and of replay's targets teaches as much (docs/experiments/replay.md). Cells
    empty sooner than in runs of thousands of steps. With momentum what one view sees would go on in ten steps of
    others: fog and mottle.
    """
    shared = {
        "cameras": mini_cameras(),
        "size": ramp((0, 64), (max(1, steps // 2), 96)),
        "pixel_stride": 2,
        "representation": mini_field(steps),
        "surface": MINI_SURFACE,
        "renderer": VolumeRendererConfig(samples_per_ray=64),
        "occupancy": OccupancyGridConfig(decay=0.8),
        "adam_betas": (0.0, 0.99),
    }
    return Stage(steps=steps, **{**shared, **own})


def mini_splat_stage(steps: int, num_points: int, **own: Any) -> Stage:
    """A stage of Gaussians at 128x128 pixels; `own` replaces or adds settings."""
    gaussians = GaussiansConfig(
        num_points=num_points, radius=0.4, means_lr=(5e-3, 2e-4), sh0_lr=(0.03, 0.003), lr_steps=steps
    )
    shared = {"size": constant(128), "representation": gaussians, "renderer": SplatRendererConfig()}
    return Stage(steps=steps, **{**shared, **own})
