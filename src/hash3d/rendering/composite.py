"""Light along rays: how much of it reaches each step and is stopped there, and what a pixel gets of it."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.representations.backends import FieldBackend, uses_triton

from .march import Steps


def light_and_alphas(
    density: Float[Tensor, " N"], steps: Steps, num_rays: int
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """The share of light that reaches each step, and the share of that which it stops.

    alpha_i = 1 - exp(-density_i length_i), T_i = exp(-sum_{j < i} density_j length_j) (Mildenhall et al. 2020, eq. 3).
    """
    thickness = density * steps.lengths
    counts = torch.bincount(steps.rays, minlength=num_rays)
    width = int(counts.max()) + 1
    rank = torch.arange(len(density), device=density.device) - (counts.cumsum(0) - counts)[steps.rays]
    # One row a ray, moved right by one, so that a running sum ends before the step itself.
    slots = steps.rays * width + rank
    before = density.new_zeros(num_rays * width).index_put((slots + 1,), thickness)
    before = before.view(num_rays, width).cumsum(dim=-1).view(-1)[slots]
    return torch.exp(-before), -torch.expm1(-thickness)


def seen(
    density: Float[Tensor, " N"],
    steps: Steps,
    num_rays: int,
    min_alpha: Float[Tensor, ""],
    min_transmittance: float,
    *,
    backend: FieldBackend = "auto",
) -> Bool[Tensor, " N"]:
    """Whether a step has an alpha of at least `min_alpha` and gets at least `min_transmittance` of the light."""
    if uses_triton(backend, density) and uses_triton(backend, steps.lengths):
        from ._triton_composite import seen_triton

        return seen_triton(density, steps.lengths, steps.bounds(num_rays), min_alpha, min_transmittance)
    transmittance, alphas = light_and_alphas(density, steps, num_rays)
    return (alphas >= min_alpha) & (transmittance >= min_transmittance)


def composite(
    density: Float[Tensor, " N"],
    values: Float[Tensor, "N P"],
    steps: Steps,
    num_rays: int,
    *,
    backend: FieldBackend = "auto",
) -> tuple[Float[Tensor, " N"], Float[Tensor, "R P"]]:
    """The weights T_i alpha_i of the steps, which sum to a ray's alpha, and the rays' weighted sums of `values`.

    Differentiable in `density` and `values`; by the definition any number of times, by the kernels once.
    """
    if uses_triton(backend, density) and uses_triton(backend, steps.lengths):
        from ._triton_composite import composite_triton

        return composite_triton(density, values, steps.lengths, steps.bounds(num_rays))
    transmittance, alphas = light_and_alphas(density, steps, num_rays)
    weights = transmittance * alphas
    return weights, sum_along_rays(weights[:, None] * values, steps.rays, num_rays)


def sum_along_rays(values: Float[Tensor, "N P"], rays: Int[Tensor, " N"], num_rays: int) -> Float[Tensor, "R P"]:
    """Sums over the steps of each ray, column by column: PyTorch adds single numbers much faster than short rows."""
    return torch.stack([values.new_zeros(num_rays).index_add(0, rays, column) for column in values.unbind(-1)], dim=-1)
