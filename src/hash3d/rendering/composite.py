"""Composite samples along rays: transmittance, alpha and weights."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.kernels import FieldBackend, uses_triton

from .march import Steps


def transmittance_and_alphas(
    density: Float[Tensor, " N"], steps: Steps, num_rays: int
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Return T_i = exp(-sum_{j < i} density_j length_j) and alpha_i = 1 - exp(-density_i length_i) of each sample."""
    thickness = density * steps.lengths
    counts = torch.bincount(steps.rays, minlength=num_rays)
    width = int(counts.max()) + 1
    rank = torch.arange(len(density), device=density.device) - (counts.cumsum(0) - counts)[steps.rays]
    # One row a ray, moved right by one, so that a running sum ends before the step itself.
    slots = steps.rays * width + rank
    before = density.new_zeros(num_rays * width).index_put((slots + 1,), thickness)
    before = before.view(num_rays, width).cumsum(dim=-1).view(-1)[slots]
    return torch.exp(-before), -torch.expm1(-thickness)


def is_visible(
    density: Float[Tensor, " N"],
    steps: Steps,
    num_rays: int,
    min_alpha: Float[Tensor, ""],
    min_transmittance: float,
    *,
    backend: FieldBackend = "auto",
) -> Bool[Tensor, " N"]:
    """Whether a sample has an alpha of at least `min_alpha` behind a transmittance of at least `min_transmittance`."""
    if uses_triton(backend, density) and uses_triton(backend, steps.lengths):
        from ._triton_composite import is_visible_triton

        return is_visible_triton(density, steps.lengths, steps.bounds(num_rays), min_alpha, min_transmittance)
    transmittance, alphas = transmittance_and_alphas(density, steps, num_rays)
    return (alphas >= min_alpha) & (transmittance >= min_transmittance)


def composite(
    density: Float[Tensor, " N"],
    values: Float[Tensor, "N P"],
    steps: Steps,
    num_rays: int,
    *,
    backend: FieldBackend = "auto",
) -> tuple[Float[Tensor, " N"], Float[Tensor, "R P"]]:
    """Return samples' weights T_i alpha_i, which sum to a ray's alpha, and rays' weighted sums of `values`.

    Differentiable in `density` and `values`: in PyTorch any number of times, by the kernels once.
    """
    if uses_triton(backend, density) and uses_triton(backend, steps.lengths):
        from ._triton_composite import composite_triton

        return composite_triton(density, values, steps.lengths, steps.bounds(num_rays))
    transmittance, alphas = transmittance_and_alphas(density, steps, num_rays)
    weights = transmittance * alphas
    return weights, sum_along_rays(weights[:, None] * values, steps.rays, num_rays)


def sum_along_rays(values: Float[Tensor, "N P"], rays: Int[Tensor, " N"], num_rays: int) -> Float[Tensor, "R P"]:
    """Sum over the samples of each ray, column by column: PyTorch adds numbers much faster than short rows."""
    return torch.stack([values.new_zeros(num_rays).index_add(0, rays, column) for column in values.unbind(-1)], dim=-1)
