"""Losses of renders, each a scalar."""

from jaxtyping import Float
from torch import Tensor


def color_loss(color: Float[Tensor, "B H W 3"], target: Float[Tensor, "B H W 3"]) -> Float[Tensor, ""]:
    """Mean squared error of colours on the same background."""
    return (color - target).square().mean()


def mask_loss(alpha: Float[Tensor, "B H W 1"], target: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Mean squared error of alpha."""
    return (alpha - target).square().mean()


def opaque_loss(alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Mean of alpha (1 - alpha): 0 where each pixel is either empty or solid, at most 1/4."""
    return (alpha * (1.0 - alpha)).mean()


def scale_loss(scales: Float[Tensor, "N 3"], limit: float) -> Float[Tensor, ""]:
    """Mean squared excess of the longest axes over `limit`, in units of `limit`."""
    return (scales.amax(dim=-1) / limit - 1.0).clamp(min=0.0).square().mean()
