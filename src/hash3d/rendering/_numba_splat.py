"""Gaussian splatting on the CPU: the numba kernels as one differentiable function."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hash3d._numba_kernel import Array, use_torch_threads

from ._numba_blend import bin_gaussians, blend, blend_backward
from ._numba_project import project_backward, project_gaussians
from ._torch_splat import jacobian_limits
from .base import Render
from .splat import SplatJob


def render_numba(job: SplatJob) -> Render:
    """Render as `render_torch` up to rounding, on as many threads as torch."""
    use_torch_threads()
    splats = job.splats
    scene = (splats.means, splats.quats, splats.scales, splats.opacities, splats.colors)
    cameras = [
        (_array(view), _array(intrinsic), np.array(jacobian_limits(intrinsic, job.size)))
        for view, intrinsic in zip(job.viewmats.double(), job.intrinsics.double(), strict=True)
    ]
    image: Tensor = _Splatting.apply(  # type: ignore[no-untyped-call]
        *scene, job.background, job.probe, cameras, job.size, job.config
    )
    return Render(color=image[..., :3], depth=image[..., 3:4], alpha=image[..., 4:])


def _array(tensor: Tensor) -> Array:
    return tensor.detach().contiguous().numpy()


class _Splatting(torch.autograd.Function):
    """Images "B H W 5" (red, green, blue, depth, alpha); the views are rendered one after the other."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        *tensors, cameras, (width, height), config = inputs
        means, quats, scales, opacities, colors, background, probe = (_array(tensor) for tensor in tensors)
        constants = (config.near, config.eps2d, config.min_alpha)
        limits = np.array([config.min_alpha, config.min_transmittance], means.dtype)
        images = np.empty((len(cameras), height, width, 5), means.dtype)
        views = []
        for image, camera, back, shift in zip(images, cameras, background, probe, strict=True):
            splats, boxes = project_gaussians(
                means, quats, scales, opacities, colors, shift, camera, (width, height), constants
            )
            visible = np.flatnonzero(boxes[:, 1])
            order = visible[np.argsort(splats[visible, 9], kind="stable")]
            rows, starts = bin_gaussians(order, boxes, width, height)
            blend(splats, boxes, rows, starts, back, limits, image)
            views.append((splats, boxes, rows, starts))
        result = torch.from_numpy(images)
        ctx.save_for_backward(*tensors[:3], result)
        ctx.views, ctx.cameras, ctx.limits = views, cameras, limits
        return result

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        *tensors, result = ctx.saved_tensors
        means, quats, scales, images = (_array(tensor) for tensor in (*tensors, result))
        grad_images = _array(grad_outputs[0])
        grads = (np.zeros_like(means), np.zeros_like(quats), np.zeros_like(scales))
        all_splats = np.empty((len(images), len(means), 10), means.dtype)
        for b, (splats, boxes, rows, starts) in enumerate(ctx.views):
            all_splats[b] = blend_backward(splats, boxes, rows, starts, ctx.limits, images[b], grad_images[b])
            project_backward(means, quats, scales, splats, boxes, ctx.cameras[b], all_splats[b], grads)
        summed, back = all_splats.sum(axis=0), np.einsum("bhw,bhwc->bc", 1.0 - images[..., 4], grad_images[..., :3])
        found = (*grads, summed[:, 5], summed[:, 6:9], back.astype(means.dtype), all_splats[..., :2])
        return *(torch.from_numpy(np.ascontiguousarray(grad)) for grad in found), None, None, None
