"""Weights of the losses over the steps of a stage."""

from dataclasses import dataclass, field, fields
from functools import cached_property

from hash3d.schedules import Schedule, constant

OFF = constant(0.0)


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses over the steps; a loss whose weight is 0 is not computed.

    `hash3d.scenes.losses` defines the losses; which of them a scene has, `Scene` and its kinds say.
    """

    guidance: Schedule = field(default_factory=lambda: constant(0.1))
    """Of what the diffusion model says of the random view."""
    text_guidance: Schedule = OFF
    """Of what the second diffusion model, asked by text, says of it."""
    color: Schedule = field(default_factory=lambda: constant(500.0))
    """Of the mean squared colour error of the reference view."""
    mask: Schedule = field(default_factory=lambda: constant(50.0))
    """Of the mean squared alpha error of the reference view."""
    mask_entropy: Schedule = OFF
    """Of the cross entropy of the reference view's alpha."""
    opaque: Schedule = OFF
    """Of the mean of alpha (1 - alpha) over the random view: against fog."""
    opaque_entropy: Schedule = OFF
    """Of the entropy of alpha over all views: against fog too."""
    sparsity: Schedule = OFF
    """Of the mean alpha over the random view, nearly: against filled pictures."""
    total_variation: Schedule = OFF
    """Of the differences between neighbouring pixels of the random view."""
    orientation: Schedule = OFF
    """Of a field's normals that look away from the camera."""
    normal_smoothness: Schedule = OFF
    """Of the differences between neighbouring normals of a field's pictures."""
    normal_smoothness_3d: Schedule = OFF
    """Of the differences between a field's normals at a sample and close to it."""
    normal_consistency: Schedule = OFF
    """Of the angles between a mesh's normals at the two ends of each edge."""
    scale: Schedule = OFF
    """Of the mean squared excess of Gaussians' longest axes over `scale_limit`: against needles and balloons."""
    scale_limit: float = 0.05
    """Longest axis in scene units that costs nothing."""
    scale_sum: Schedule = OFF
    """Of the sum of the Gaussians' axes."""
    opacity: Schedule = OFF
    """Of the sum of the Gaussians' opacities, each times its size."""
    position: Schedule = OFF
    """Of the Gaussians' mean distance from the origin."""
    shape_variation: Schedule = OFF
    """Of the differences between neighbouring pixels of the depths and normals of splats."""

    def active(self, step: int) -> dict[str, float]:
        """The weights that are not 0 at a step, by name."""
        values = {name: schedule(step) for name, schedule in self._used.items()}
        return {name: value for name, value in values.items() if value != 0.0}

    def used(self) -> set[str]:
        """The names of the weights that are not 0 throughout."""
        return set(self._used)

    @cached_property
    def _used(self) -> dict[str, Schedule]:
        """The schedules that are not 0 throughout: few of many, and asked at every step."""
        return {name: each for name, each in self.schedules().items() if any(value for _, value in each.knots)}

    def schedules(self) -> dict[str, Schedule]:
        """All schedules by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Schedule)}
