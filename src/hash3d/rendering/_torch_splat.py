"""The reference implementation of Gaussian splatting in plain, differentiable PyTorch, and the fallback.

Projection: Zwicker et al. (2001), "EWA Splatting", as gsplat 1.5.3 "classic". Compositing: Kerbl et al. (2023). Every
Gaussian is evaluated at every pixel.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hash3d.representations.gaussians import GaussianTensors

from .base import Render
from .splat import SplatJob, SplatRendererConfig

MAX_ALPHA = 0.999
"""Largest opacity of one Gaussian at one pixel (gsplat 1.5.3, RasterizeToPixels3DGSFwd.cu)."""
JACOBIAN_MARGIN = 0.3
"""Share of the half field of view beyond the image's edge at which the Jacobian's ray is clamped."""
BLOCK_ELEMENTS = 4_000_000
"""Gaussians times pixels evaluated at once."""


class Projection(NamedTuple):
    """M visible Gaussians of one view, nearest first: rows, pixels, inverse covariance in 1/pixel^2, depths along z."""

    indices: Int[Tensor, " M"]
    means2d: Float[Tensor, "M 2"]
    conics: Float[Tensor, "M 3"]
    depths: Float[Tensor, " M"]


def render_torch(job: SplatJob) -> Render:
    """Render view by view, pixels in blocks to bound memory, each recomputed in the backward pass."""
    splats, (width, height), config, views = job.splats, job.size, job.config, []
    columns, rows = (torch.arange(count).to(splats.means) + 0.5 for count in job.size)
    pixels = torch.cartesian_prod(rows, columns).flip(-1)
    for viewmat, intrinsic, back, probe in zip(*job[1:5], strict=True):
        projection = project(splats, viewmat, intrinsic, job.size, config)
        means2d = projection.means2d + probe[projection.indices]
        values = torch.cat([splats.colors[projection.indices], projection.depths[:, None]], dim=-1)
        gaussians = (means2d, projection.conics, splats.opacities[projection.indices], values)
        arguments = (*gaussians, back, config.min_alpha, config.min_transmittance)
        blocks = pixels.split(max(1, BLOCK_ELEMENTS // max(1, len(means2d))))
        if len(blocks) == 1:
            image = composite(pixels, *arguments)
        else:
            image = torch.cat([checkpoint(composite, block, *arguments, use_reentrant=False) for block in blocks])
        views.append(image.reshape(height, width, 5))
    images = torch.stack(views)
    return Render(color=images[..., :3], depth=images[..., 3:4], alpha=images[..., 4:])


def rotation_matrices(quats: Float[Tensor, "N 4"]) -> Float[Tensor, "N 3 3"]:
    """Convert quaternions (w, x, y, z), normalised first, to rotation matrices."""
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], dim=-1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], dim=-1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def project(
    splats: GaussianTensors,
    viewmat: Float[Tensor, "4 4"],
    intrinsic: Float[Tensor, "3 3"],
    size: tuple[int, int],
    config: SplatRendererConfig,
) -> Projection:
    """Project the Gaussians in front of the near plane to ellipses, sorted by depth (ties keep their order)."""
    rotation = viewmat[:3, :3]
    means = splats.means @ rotation.T + viewmat[:3, 3]
    indices = (means[:, 2] >= config.near).nonzero()[:, 0]
    indices = indices[torch.argsort(means[indices, 2].detach(), stable=True)]
    means = means[indices]
    axes = rotation @ (rotation_matrices(splats.quats[indices]) * splats.scales[indices, None, :])
    footprint = _jacobian(means, intrinsic, size) @ axes
    covariance = footprint @ footprint.transpose(1, 2)
    xx, xy, yy = covariance[:, 0, 0] + config.eps2d, covariance[:, 0, 1], covariance[:, 1, 1] + config.eps2d
    determinant = xx * yy - xy * xy
    conics = torch.stack([yy, -xy, xx], dim=-1) / determinant[:, None]
    means2d = means[:, :2] / means[:, 2:] * intrinsic.diagonal()[:2] + intrinsic[:2, 2]
    return Projection(indices, means2d, conics, means[:, 2])


def _jacobian(
    means: Float[Tensor, "M 3"], intrinsic: Float[Tensor, "3 3"], size: tuple[int, int]
) -> Float[Tensor, "M 2 3"]:
    """Return the derivative of the pixel with respect to the camera-frame point (Zwicker et al. 2001, eq. 29).

    Rays beyond the image by `JACOBIAN_MARGIN` half fields of view are clamped, as in gsplat: far off the axis it would
    smear them.
    """
    x, y, z = means.unbind(-1)
    limits = jacobian_limits(intrinsic, size)
    ray_x = (x / z).clamp(limits[0], limits[1])
    ray_y = (y / z).clamp(limits[2], limits[3])
    focal_x, focal_y, zero = intrinsic[0, 0], intrinsic[1, 1], torch.zeros_like(z)
    rows = [
        torch.stack([focal_x / z, zero, -focal_x * ray_x / z], dim=-1),
        torch.stack([zero, focal_y / z, -focal_y * ray_y / z], dim=-1),
    ]
    return torch.stack(rows, dim=-2)


def jacobian_limits(intrinsic: Float[Tensor, "3 3"], size: tuple[int, int]) -> list[float]:
    """Return the least and greatest x / z, then y / z, of the Jacobian's rays."""
    limits = []
    for axis in range(2):
        focal, centre = float(intrinsic[axis, axis]), float(intrinsic[axis, 2])
        margin = JACOBIAN_MARGIN * 0.5 * size[axis] / focal
        limits += [-centre / focal - margin, (size[axis] - centre) / focal + margin]
    return limits


def composite(
    pixels: Float[Tensor, "P 2"],
    means2d: Float[Tensor, "M 2"],
    conics: Float[Tensor, "M 3"],
    opacities: Float[Tensor, " M"],
    values: Float[Tensor, "M 4"],
    background: Float[Tensor, " 3"],
    min_alpha: float,
    min_transmittance: float,
) -> Float[Tensor, "P 5"]:
    """Composite Gaussians, sorted front to back, at `pixels`: colour on the background, weighted depth, and alpha.

    alpha_i = min(0.999, opacity_i exp(-0.5 d^T Q_i d)), 0 below `min_alpha`; a pixel ends before the Gaussian that
    would bring its transmittance to `min_transmittance` or below (Kerbl et al. 2023).
    """
    dx, dy = (pixels[:, None] - means2d[None]).unbind(-1)
    power = 0.5 * (conics[:, 0] * dx * dx + conics[:, 2] * dy * dy) + conics[:, 1] * dx * dy
    alphas = (opacities * torch.exp(-power)).clamp(max=MAX_ALPHA)
    alphas = torch.where(_composited(alphas.detach(), min_alpha, min_transmittance), alphas, 0.0)
    after = torch.cumprod(1.0 - alphas, dim=-1)
    before = torch.cat([torch.ones_like(after[:, :1]), after[:, :-1]], dim=-1)[:, : alphas.shape[1]]
    remaining = after[:, -1:] if after.shape[1] else after.new_ones(len(pixels), 1)
    image = (alphas * before) @ values
    color = image[:, :3] + remaining * background
    return torch.cat([color, image[:, 3:], 1.0 - remaining], dim=-1)


def _composited(alphas: Float[Tensor, "P M"], min_alpha: float, min_transmittance: float) -> Bool[Tensor, "P M"]:
    """Whether a pixel sums a Gaussian: not too faint, and before the pixel ends."""
    enough = alphas >= min_alpha
    return enough & (torch.cumprod(torch.where(enough, 1.0 - alphas, 1.0), dim=-1) > min_transmittance)
