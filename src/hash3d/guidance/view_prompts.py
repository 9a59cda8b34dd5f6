"""Words of a prompt that say from where an object is seen."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

VIEWS = ("front view", "side view", "back view", "overhead view")
FRONT, SIDE, BACK, OVERHEAD = range(4)

OVERHEAD_ELEVATION = 60.0
"""Degrees; higher views are seen from overhead, whatever their azimuth."""
SECTOR = 45.0
"""Degrees of azimuth on either side of the front, and of the back, that count as such."""


def view_index(elevation: Float[Tensor, " B"], azimuth: Float[Tensor, " B"]) -> Int[Tensor, " B"]:
    """Index into VIEWS of cameras at angles in degrees; the front is at azimuth 0.

    The rule of threestudio 28d9d80, models/prompt_processors/base.py, with its default thresholds.
    """
    turned = ((azimuth + 180.0) % 360.0 - 180.0).abs()  # The short way round.
    index = torch.full_like(turned, SIDE, dtype=torch.long)
    index[turned < SECTOR] = FRONT
    index[turned > 180.0 - SECTOR] = BACK
    index[elevation > OVERHEAD_ELEVATION] = OVERHEAD
    return index


def view_prompt(prompt: str, view: int) -> str:
    """The prompt, with the words for VIEWS[view]."""
    return f"{prompt}, {VIEWS[view]}"
