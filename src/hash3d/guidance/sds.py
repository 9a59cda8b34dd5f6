"""Score distillation sampling (Poole et al. 2022): pure functions."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.diffusion.noise import Latents
from hash3d.tensors import to_device

Bound = float | Float[Tensor, ""] | None
"""Of every number of a gradient; None: not bounded."""


def classifier_free_guidance(conditional: Latents, unconditional: Latents, scale: float) -> Latents:
    """unconditional + scale (conditional - unconditional) (Ho and Salimans 2022, with 1 + w = scale)."""
    return unconditional + scale * (conditional - unconditional)


def sds_gradient(noise_pred: Latents, noise: Latents, weights: Float[Tensor, " B"]) -> Latents:
    """w(t) (noise_pred - noise), on the latents, without the U-Net's Jacobian (Poole et al. 2022, eq. 3)."""
    return to_device(weights, noise).view(-1, 1, 1, 1) * (noise_pred - noise)


def sds_loss(latents: Latents, gradient: Latents, max_gradient: Bound = None) -> Float[Tensor, ""]:
    """A loss whose gradient on the latents is `gradient` / B: 0.5 sum (latents - stop(latents - gradient))^2 / B.

    The form of threestudio 28d9d80, stable_diffusion_guidance.py. A gradient that is not finite counts as zero; then
    each of its numbers is clamped to [-max_gradient, max_gradient], before the division by B.
    In float32, since half-precision latents lie farther apart than a small gradient is long.
    """
    latents, finite = latents.float(), torch.nan_to_num(gradient.float(), nan=0.0, posinf=0.0, neginf=0.0)
    bound: Any = max_gradient
    if bound is not None:
        finite = finite.clamp(-bound, bound)
    target = (latents - finite).detach()
    return 0.5 * (latents - target).square().sum() / latents.shape[0]
