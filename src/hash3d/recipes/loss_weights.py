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
    """

    guidances: Mapping[str, Schedule] = field(default_factory=dict)
    """Weight of each guidance of the stage, by its name."""
    color: Schedule = field(default_factory=lambda: constant(500.0))
    """Mean squared colour error of the reference view."""
    mask: Schedule = field(default_factory=lambda: constant(50.0))
    """Mean squared alpha error of the reference view."""
    mask_entropy: Schedule = OFF
    """Binary cross entropy of the reference view's alpha."""
    opaque: Schedule = OFF
    """Mean of alpha (1 - alpha) over the random view: against fog."""
    opaque_entropy: Schedule = OFF
    """Entropy of alpha over all views: against fog too."""
    sparsity: Schedule = OFF
    """Mean of a smooth |alpha| over the random view: against filled images."""
    total_variation: Schedule = OFF
    """Total variation of the random view."""
    orientation: Schedule = OFF
    """Visible normals of a field that face away from the camera."""
    normal_smoothness: Schedule = OFF
    """Differences between neighbouring pixels of a field's normal images."""
    normal_smoothness_3d: Schedule = OFF
    """Differences between a field's normals at a sample and close to it."""
    normal_consistency: Schedule = OFF
    """Angles between a mesh's normals at the two ends of each edge."""
    scale: Schedule = OFF
    """Mean squared excess of the Gaussians' longest axes over `scale_limit`: against needles and balloons."""
    scale_limit: float = 0.05
    """Longest axis in scene units that costs nothing."""
    scale_sum: Schedule = OFF
    """Sum of the Gaussians' axes."""
    opacity: Schedule = OFF
    """Sum of the Gaussians' opacities, each times its size."""
    position: Schedule = OFF
    """Mean distance of the Gaussians from the origin."""
    shape_variation: Schedule = OFF
    """Total variation of the depths and normals of splats."""

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
