"""Gaussian splatting on CUDA: the only file that imports gsplat (Ye et al. 2024, version 1.5.3 read)."""

import torch
from jaxtyping import Float
from torch import Tensor

from .base import Render
from .splat import SplatJob


def render_gsplat(job: SplatJob) -> Render:
    """Render by gsplat's classic mode, as `render_torch` up to rounding; the host waits once, for the tiles' number.

    gsplat projects inside, so the probe's values must be zero; a hook hands over its gradient after `backward()`, not
    through `torch.autograd.grad`.
    """
    try:
        from gsplat import rasterization
    except ImportError as error:
        raise ImportError("The splatting backend 'gsplat' is not installed. Run pip install 'hash3d[cuda]'.") from error
    splats, size, config, defaults = job.splats, job.size, job.config, type(job.config)()
    if (config.min_alpha, config.min_transmittance) != (defaults.min_alpha, defaults.min_transmittance):
        raise ValueError("gsplat has min_alpha and min_transmittance built in. Leave them, or choose backend 'torch'.")
    if len(splats) == 0:
        color = job.background[:, None, None].expand(-1, size[1], size[0], 3)
        return Render(color=color, alpha=torch.zeros_like(color[..., :1]), depth=torch.zeros_like(color[..., :1]))
    image, alpha, info = rasterization(
        splats.means, splats.quats, splats.scales, splats.opacities, splats.colors, job.viewmats, job.intrinsics, *size,
        near_plane=config.near, eps2d=config.eps2d, packed=False, render_mode="RGB+D", rasterize_mode="classic",
        backgrounds=job.background,
    )  # fmt: skip
    if job.probe.requires_grad and info["means2d"].requires_grad:
        info["means2d"].register_hook(lambda gradient: _accumulate(job.probe, gradient))
    return Render(color=image[..., :3], alpha=alpha, depth=image[..., 3:])


def _accumulate(probe: Float[Tensor, "B N 2"], gradient: Float[Tensor, "B N 2"]) -> None:
    """Add to the gradient of a leaf, as autograd does."""
    probe.grad = gradient.clone() if probe.grad is None else probe.grad + gradient
