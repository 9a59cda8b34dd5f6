"""Weights of the losses over the steps of a stage."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property

from hash3d.schedules import Schedule, constant

OFF = constant(0.0)


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weights of the losses over the steps; a loss whose weight is 0 is not computed, guidances always are.

    `hash3d.scenes.losses` defines the losses; `Scene` and its kinds say which of them they have.

    Args:
        guidances: Weight of each guidance of the stage, by its name.
        color: Mean squared colour error of the reference view.
        mask: Mean squared alpha error of the reference view.
        mask_entropy: Binary cross entropy of the reference view's alpha.
        opaque: Mean of alpha (1 - alpha) over the random view: against fog.
        opaque_entropy: Entropy of alpha over all views: against fog too.
        sparsity: Mean of a smooth |alpha| over the random view: against filled images.
        total_variation: Total variation of the random view.
        orientation: Visible normals of a field that face away from the camera.
        normal_smoothness: Differences between neighbouring pixels of a field's normal images.
        normal_smoothness_3d: Differences between a field's normals at a sample and close to it.
        normal_consistency: Angles between a mesh's normals at the two ends of each edge.
        scale: Mean squared excess of the Gaussians' longest axes over `scale_limit`: against needles and balloons.
        scale_limit: Longest axis in scene units that costs nothing.
        scale_sum: Sum of the Gaussians' axes.
        opacity: Sum of the Gaussians' opacities, each times its size.
        position: Mean distance of the Gaussians from the origin.
        shape_variation: Total variation of the depths and normals of splats.
    """

    guidances: Mapping[str, Schedule] = field(default_factory=dict)
    color: Schedule = field(default_factory=lambda: constant(500.0))
    mask: Schedule = field(default_factory=lambda: constant(50.0))
    mask_entropy: Schedule = OFF
    opaque: Schedule = OFF
    opaque_entropy: Schedule = OFF
    sparsity: Schedule = OFF
    total_variation: Schedule = OFF
    orientation: Schedule = OFF
    normal_smoothness: Schedule = OFF
    normal_smoothness_3d: Schedule = OFF
    normal_consistency: Schedule = OFF
    scale: Schedule = OFF
    scale_limit: float = 0.05
    scale_sum: Schedule = OFF
    opacity: Schedule = OFF
    position: Schedule = OFF
    shape_variation: Schedule = OFF

    def active(self, step: int) -> dict[str, float]:
        """The weights that are not 0 at a step, by name; guidances are not among them."""
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
        """All schedules but the guidances' by name."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: value for name, value in values.items() if isinstance(value, Schedule)}
