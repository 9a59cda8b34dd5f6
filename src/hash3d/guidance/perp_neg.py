"""Perp-Neg: negative prompts that name the wrong views, against objects with several faces.

Armandpour et al. 2023, "Re-imagine the Negative Prompt Algorithm" (https://arxiv.org/abs/2304.04968). A negative
prompt pushes only at right angles to the prompt, so that the two may share words. Four predictions a view: the prompt,
the unconditional one, and the prompt with the words of the front and of the side.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.transfer import to_device

from .view_prompts import BACK, FRONT, OVERHEAD, OVERHEAD_ELEVATION, SIDE, VIEWS, degrees_from_front

NEGATIVE_VIEWS = (FRONT, SIDE)
"""The views that a prompt is pushed away from, in the order of their weights."""

Decay = tuple[float, float, float]
"""(a, b, c) of a weight a exp(-b r) + c."""


@dataclass(frozen=True, kw_only=True)
class PerpNegConfig:
    """How strongly each view is pushed away from the words of the front and of the side.

    Each weight is a exp(-b r) + c of a share r in [0, 1]. Defaults: threestudio 28d9d80,
    models/prompt_processors/base.py (`perp_neg_f_*`), whose weights are negative and added; ours are positive and
    subtracted. The halves meet at the side to 1e-3. A view is not pushed away from its own words: at the front the
    weight against the front is 0, at the side that against the side, both to 1e-3.
    """

    front_half_from_front: Decay = (4.0, 0.5, -2.426)
    """Against the front, between side (r = 0) and front (r = 1): f_fs. Larger weights turn away more faces."""
    front_half_from_side: Decay = (4.0, 0.5, -2.426)
    """Against the side, between front (r = 0) and side (r = 1): f_sf."""
    back_half_from_side: Decay = (1.0, 0.5, -0.606)
    """Against the side, between back (r = 0) and side (r = 1): f_sb."""
    back_half_from_front: Decay = (1.0, 0.5, 0.967)
    """Against the front, between back (r = 0) and side (r = 1): f_fsb."""


def positive_weights(elevation: Float[Tensor, " B"], azimuth: Float[Tensor, " B"]) -> Float[Tensor, "B 4"]:
    """Shares of VIEWS in the prompt of cameras at angles in degrees: linear from front to side to back, or overhead."""
    turned = degrees_from_front(azimuth)
    to_side, to_back = (turned / 90.0).clamp(max=1.0), (turned / 90.0 - 1.0).clamp(min=0.0)
    weights = torch.zeros(len(azimuth), len(VIEWS))
    weights[:, FRONT], weights[:, SIDE], weights[:, BACK] = 1.0 - to_side, to_side - to_back, to_back
    overhead = elevation > OVERHEAD_ELEVATION
    weights[overhead] = 0.0
    weights[overhead, OVERHEAD] = 1.0
    return weights


def negative_weights(
    config: PerpNegConfig, elevation: Float[Tensor, " B"], azimuth: Float[Tensor, " B"]
) -> Float[Tensor, "B 2"]:
    """How strongly cameras at angles in degrees are pushed away from NEGATIVE_VIEWS; views from overhead are not."""
    front, side, _, overhead = positive_weights(elevation, azimuth).unbind(-1)
    in_front = degrees_from_front(azimuth) < 90.0
    from_front = torch.where(
        in_front, _decay(config.front_half_from_front, front), _decay(config.back_half_from_front, side)
    )
    from_side = torch.where(
        in_front, _decay(config.front_half_from_side, side), _decay(config.back_half_from_side, side)
    )
    return torch.stack([from_front, from_side], dim=-1) * (1.0 - overhead)[:, None]


def perpendicular(vectors: Float[Tensor, "B C h w"], directions: Float[Tensor, "B C h w"]) -> Float[Tensor, "B C h w"]:
    """What is left of each vector without its part along its direction, in float32. Without a direction: all of it."""
    vectors, directions = vectors.float(), directions.float()
    along = (vectors * directions).sum(dim=(1, 2, 3), keepdim=True)
    length = directions.square().sum(dim=(1, 2, 3), keepdim=True).clamp(min=torch.finfo(torch.float32).tiny)
    return vectors - along / length * directions


def perp_neg_guidance(
    conditional: Float[Tensor, "B C h w"],
    unconditional: Float[Tensor, "B C h w"],
    negatives: Float[Tensor, "N B C h w"],
    weights: Float[Tensor, "B N"],
    scale: float,
) -> Float[Tensor, "B C h w"]:
    """unconditional + scale (p - sum_n weight_n n_perp), with p = conditional - unconditional.

    n_perp is what of negative_n - unconditional stands at right angles to p (Armandpour et al. 2023, in the form of
    threestudio 28d9d80). With zero weights it is classifier-free guidance. Velocities may stand for noises: they differ
    by a factor of t, which all terms share, and an offset, which the differences lose.
    """
    positive = conditional - unconditional
    pushes = torch.stack([perpendicular(negative - unconditional, positive) for negative in negatives], dim=1)
    push = torch.einsum("bn,bnchw->bchw", to_device(weights, pushes), pushes)
    return unconditional + scale * (positive - push.to(positive))


def _decay(coefficients: Decay, share: Float[Tensor, " B"]) -> Float[Tensor, " B"]:
    """The weight a exp(-b r) + c."""
    amplitude, rate, offset = coefficients
    return amplitude * torch.exp(-rate * share) + offset
