"""Features in 8 bits: half the memory of half precision, for a rounding error of at most half a step."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int8
from torch import Tensor

LEVELS = 127
"""Steps from zero to the largest number of a channel; code -128 is not used, so that both signs have as many."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Quantised:
    """A feature of S guidance branches and C channels as codes * scale, with a scale for each branch and channel."""

    codes: Int8[Tensor, "S C ..."]
    scale: Float[Tensor, "S C"]
    """The step: the channel's largest absolute value / 127, in float32."""
    dtype: torch.dtype
    """Of the feature."""

    @property
    def shape(self) -> torch.Size:
        """Of the feature."""
        return self.codes.shape

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.codes.nbytes + self.scale.nbytes

    def dequantise(self) -> Float[Tensor, "S C ..."]:
        """The feature, at most half a step off, and a rounding of its dtype."""
        return (self.codes * _beside(self.scale, self.codes)).to(self.dtype)

    def copy_(self, other: "Quantised") -> None:
        """Take over another's numbers."""
        self.codes.copy_(other.codes)
        self.scale.copy_(other.scale)


def quantise(feature: Float[Tensor, "S C ..."]) -> Quantised:
    """Round every channel of every branch to multiples of its largest absolute value / 127. Zeros stay zeros."""
    exact = feature.float()
    scale = exact.reshape(*exact.shape[:2], -1).abs().amax(-1) / LEVELS
    steps = _beside(scale.where(scale > 0, 1.0), exact)
    return Quantised(codes=(exact / steps).round().to(torch.int8), scale=scale, dtype=feature.dtype)


def _beside(scale: Float[Tensor, "S C"], feature: Tensor) -> Tensor:
    """The scale with as many dimensions as the feature."""
    return scale.reshape(*scale.shape, *[1] * (feature.ndim - 2))
