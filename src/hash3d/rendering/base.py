"""The images that a renderer returns."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Render:
    """Images of B views: colour on the background, opacity in [0, 1], and depth.

    `depth` is the alpha-weighted sum of distances along the camera's z axis, in scene units.
    """

    color: Float[Tensor, "B H W 3"]
    alpha: Float[Tensor, "B H W 1"]
    depth: Float[Tensor, "B H W 1"]
