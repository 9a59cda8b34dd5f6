"""Losses of renders and scenes, each a scalar without weight."""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from hash3d.rendering.volume import RaySamples
from hash3d.representations.mesh import Mesh, take


def color_loss(color: Float[Tensor, "B H W 3"], target: Float[Tensor, "B H W 3"]) -> Float[Tensor, ""]:
    """Mean squared error of colours on the same background."""
    return (color - target).square().mean()


def mask_loss(alpha: Float[Tensor, "B H W 1"], target: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Mean squared error of alpha."""
    return (alpha - target).square().mean()


def mask_entropy_loss(alpha: Float[Tensor, "B H W 1"], target: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Mean binary cross entropy of alpha, kept 1e-5 away from 0 and 1, in nats.

    Magic123 in threestudio (28d9d80, systems/magic123.py).
    """
    return F.binary_cross_entropy(alpha.clamp(1e-5, 1.0 - 1e-5), target)


def opaque_loss(alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Mean of alpha (1 - alpha): 0 where each pixel is either empty or solid, at most 1/4."""
    return (alpha * (1.0 - alpha)).mean()


def opaque_entropy_loss(alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Mean binary cross entropy of alpha with itself, kept 1e-3 away from 0 and 1: at most ln 2.

    threestudio's "opaque" (28d9d80, systems/zero123.py).
    """
    kept = alpha.clamp(1e-3, 1.0 - 1e-3)
    return (torch.special.entr(kept) + torch.special.entr(1.0 - kept)).mean()


def sparsity_loss(alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Mean of sqrt(alpha^2 + 0.01), a smooth |alpha|: 0.1 for an empty image.

    threestudio 28d9d80, systems/zero123.py.
    """
    return (alpha.square() + 0.01).sqrt().mean()


def normal_image(normal: Float[Tensor, "B H W 3"], alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, "B H W 3"]:
    """Unit normals as colours, alpha (normal + 1) / 2 on black.

    threestudio's `comp_normal` (28d9d80, models/renderers/nerf_volume_renderer.py).
    """
    return alpha * 0.5 * (normal + 1.0)


def normal_smoothness_loss(normal: Float[Tensor, "B H W 3"]) -> Float[Tensor, ""]:
    """Mean squared difference of neighbours in a column plus that of neighbours in a row.

    threestudio 28d9d80, systems/zero123.py; its weights are for a `normal_image`.
    """
    return _mean_squared_steps(normal)


def normal_smoothness_3d_loss(
    normals: Float[Tensor, "N 3"], beside: Float[Tensor, "N 3"], counted: Bool[Tensor, " N"] | None = None
) -> Float[Tensor, ""]:
    """Mean absolute difference between a field's normals at N points and at points beside them; 0 for no points.

    With `counted` of these points alone. threestudio 28d9d80, systems/zero123.py; there a point beside is one moved by
    a normal sample of 0.01 an axis.
    """
    changes = (normals - beside).abs()
    if counted is None:
        return changes.sum() / max(normals.numel(), 1)
    return (changes * counted[:, None]).sum() / (3 * counted.sum()).clamp(min=1)


def total_variation_loss(image: Float[Tensor, "B H W C"]) -> Float[Tensor, ""]:
    """Twice the sum of the mean squared differences of neighbours in a column and in a row.

    threestudio 28d9d80, utils/loss.py.
    """
    return 2.0 * _mean_squared_steps(image)


def _mean_squared_steps(image: Float[Tensor, "B H W C"]) -> Float[Tensor, ""]:
    return image.diff(dim=1).square().mean() + image.diff(dim=2).square().mean()


def orientation_loss(samples: RaySamples, alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, ""]:
    """Sum over the samples of w max(n . d, 0)^2, a ray that stops light: visible normals that look away from the eye.

    w is the sample's weight, which gets no gradient, n its normal, d the direction of its ray; rays with an alpha of 0
    are not counted. Verbin et al. (2022), "Ref-NeRF", eq. 11, as threestudio 28d9d80 has it (systems/zero123.py).
    """
    if samples.normals is None:
        raise ValueError("Expected samples with normals, but got none. Render with normals=True.")
    away = (samples.normals * samples.directions).sum(dim=-1).clamp(min=0.0)
    return (samples.weights.detach() * away.square()).sum() / (alpha > 0.0).sum().clamp(min=1)


def normal_consistency_loss(mesh: Mesh) -> Float[Tensor, ""]:
    """Mean over the edges of 1 - cos of the angle between their vertices' normals (threestudio 28d9d80)."""
    ends = mesh.edges.vertices
    first, second = take(mesh.vertex_normals, ends).unbind(1)
    changes = 1.0 - (first * second).sum(dim=-1)
    if mesh.counts is None:
        return changes.sum() / max(len(changes), 1)
    real = ends[:, 0] != ends[:, 1]
    return (changes * real).sum() / real.sum().clamp(min=1)


def scale_loss(scales: Float[Tensor, "N 3"], limit: float) -> Float[Tensor, ""]:
    """Mean squared excess of the longest axes over `limit`, in units of `limit`."""
    return (scales.amax(dim=-1) / limit - 1.0).clamp(min=0.0).square().mean()


def scale_sum_loss(scales: Float[Tensor, "N 3"]) -> Float[Tensor, ""]:
    """Sum of all axes of all Gaussians, in scene units.

    Gaussian Splatting extension of threestudio (8c2ab7b, system/gaussian_splatting.py).
    """
    return scales.sum()


def position_loss(means: Float[Tensor, "N 3"]) -> Float[Tensor, ""]:
    """Mean distance of the Gaussians from the origin, in scene units (same source as `scale_sum_loss`)."""
    return means.norm(dim=-1).mean()


def opacity_loss(scales: Float[Tensor, "N 3"], opacities: Float[Tensor, " N"]) -> Float[Tensor, ""]:
    """Sum of |scales| opacity over the Gaussians: the large ones fade first (same source as `scale_sum_loss`).

    As there, the scales get no gradient: nothing shrinks because it is opaque.
    """
    return (scales.detach().norm(dim=-1) * opacities).sum()


def total(losses: Iterable[Float[Tensor, ""]]) -> Float[Tensor, ""]:
    """The sum of some losses."""
    return torch.stack(list(losses)).sum()
