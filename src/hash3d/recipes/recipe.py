"""All that a run is, frozen: the recipe of a system. Two equal recipes make the same run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from hash3d.cache import CacheConfig
from hash3d.pictures import Framing
from hash3d.representations.point_start import PointStartConfig
from hash3d.representations.shap_e import ShapEConfig

from .limits import check_numbers
from .stage import Stage, revisit_cells

Pose = Literal["auto", "stable", "xl"]
"""The convention of a Zero123's pose numbers (`hash3d.diffusion.pose`); auto: what is known of the prior decides."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A system with its input: an image, a text, or both.

    Args:
        system: Name of the system.
        priors: The diffusion model of each guidance by the guidance's name: a folder, an embedded prior's name, or a
            hub name. The first is the main one: it frames the reference image, and encodes and decodes latents.
        image: The reference image.
        prompt: What to make.
        negative_prompt: What it should not look like.
        framing: Whether the image is brought to the prior's framing: auto, keep or recentre.
        pose: The pose convention of the Zero123: auto, stable or xl.
        reference_elevation: Elevation in degrees from which the image was taken, and from which the result is shown.
        start: Where the first stage's Gaussians start; None: as their configuration says.
        seed: Seed of the run's random numbers.
        stage: The first stage.
        refinement: A second stage, which starts from the first one's result.
        cache: Feature reuse; None runs the whole U-Net at every step.
        checkpoint_every: Steps between two checkpoints.
    """

    system: str
    priors: Mapping[str, str]
    image: Path | None = None
    prompt: str | None = None
    negative_prompt: str = ""
    framing: Framing = "auto"
    pose: Pose = "auto"
    reference_elevation: float = 5.0
    start: PointStartConfig | ShapEConfig | None = None
    seed: int = 0
    stage: Stage
    refinement: Stage | None = None
    cache: CacheConfig | None = None
    checkpoint_every: int = 50

    def __post_init__(self) -> None:
        check_numbers(self)
        if self.prompt is not None and not self.prompt.strip():
            raise ValueError("Expected a prompt, but got an empty one. Say what to make, such as 'a red mug'.")
        if self.pose not in get_args(Pose):
            raise ValueError(f"Expected the pose convention to be one of {get_args(Pose)}, but got {self.pose!r}.")
        if unknown := self.priors.keys() - {name for stage in self.stages for name in stage.guidances}:
            raise ValueError(f"Expected priors of the recipe's guidances, but got {', '.join(sorted(unknown))}.")

    @classmethod
    def of(cls, stages: tuple[Stage, ...], *, cache: CacheConfig | None, **fields: Any) -> "Recipe":
        """A recipe of one or two stages, whose views revisit the cells of the cache."""
        first, *others = (revisit_cells(stage, cache) for stage in stages)
        return cls(stage=first, refinement=others[0] if others else None, cache=cache, **fields)

    @property
    def stages(self) -> tuple[Stage, ...]:
        """One or two."""
        return (self.stage,) if self.refinement is None else (self.stage, self.refinement)

    @property
    def prior(self) -> str | None:
        """The main diffusion model, the first of `priors`; None without any."""
        return next(iter(self.priors.values()), None)

    def map_stages(self, change: Callable[[Stage], Stage], **others: Any) -> "Recipe":
        """The recipe with `change(stage)` in place of each stage, and `others` of its fields."""
        second = self.refinement and change(self.refinement)
        return replace(self, stage=change(self.stage), refinement=second, **others)

    def up_to(self, number: int) -> "Recipe":
        """The recipe without the stages after `number`: what a run that was stopped there has made."""
        return self if number > 0 else replace(self, refinement=None)

    @property
    def steps(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.stages)
