"""What recipe files do with their stages: pick them by scale, set their number of steps, make the recipe."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NotRequired, TypedDict

from hash3d.cache import CacheConfig
from hash3d.diffusion.loading import EMBEDDED
from hash3d.recipes.loss_weights import LossWeights
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage, expect_steps, scale_steps
from hash3d.rendering.raster import RasterRendererConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.schedules import constant

NO_PRIORS: Mapping[str, str] = {}
Stages = Stage | tuple[Stage, ...]
FULL_SCALE_VISITS = 2
"""At most so many visits of a cell at full scale: more are proven at mini scale only."""
TEXT_ELEVATION = 15.0
"""Degrees from which the result of a text is shown (threestudio's evaluation)."""


class Scales(TypedDict):
    """What makes the stages at each scale."""

    mini: Callable[..., Stages]
    """For an embedded prior on a CPU; called with `steps` where it is given."""
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


def recipe_at(choices: Choices, scales: Scales, *, priors: Mapping[str, str] = NO_PRIORS, **fields: Any) -> Recipe:
    """The recipe of some choices; `TypeError` if one of them or of the fields is unknown.

    Args:
        choices: what the user said.
        scales: the system's stages.
        priors: the diffusion models of further guidances, by the guidances' names.
        fields: the other fields of the `Recipe`.
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
        name: choice for name, choice in choices.items() if name not in ("prior", "scale", "steps")
    }
    main = next(iter(stages[0].guidances))
    return Recipe.of(stages, priors={main: choices["prior"], **priors}, **others, **fields)


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
        field,
        steps=steps,
        size=constant(size),
        reference_size=constant(size),
        representation=mesh,
        renderer=RasterRendererConfig(),
        occupancy=None,
        losses=losses,
    )


def is_mini(choices: Choices) -> bool:
    """Whether the scale, or where none is chosen that of the prior, is the embedded priors' own."""
    scale = choices.get("scale")
    return scale == "mini" or (scale is None and choices["prior"] in EMBEDDED)


def _visit_less(stage: Stage) -> Stage:
    visits = min(stage.view_order.visits_per_cell, FULL_SCALE_VISITS)
    return replace(stage, view_order=replace(stage.view_order, visits_per_cell=visits))


def _as_tuple(made: Stages) -> tuple[Stage, ...]:
    return made if isinstance(made, tuple) else (made,)
