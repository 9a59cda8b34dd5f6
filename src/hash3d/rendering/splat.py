"""Gaussian splatting: render Gaussians from cameras, by the backend that suits the device."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.kernels import uses_triton
from hash3d.representations.gaussians import GaussianTensors, Splats
from hash3d.tensors import to_device

from .base import Render

Backend = Literal["auto", "torch", "numba", "triton"]
SplatRenderer = Callable[..., Render]
"""`render_gaussians` with its constants fixed."""


@dataclass(frozen=True, kw_only=True)
class SplatRendererConfig:
    """Constants of the rasteriser; the defaults are those of gsplat 1.5.3 in its "classic" mode.

    Args:
        near: Gaussians whose centre is closer than this along the camera's z axis (scene units) are left out.
        eps2d: Variance in pixels^2 added to each ellipse, so that none falls between the pixels.
        min_alpha: A Gaussian fainter than this at a pixel adds nothing there. gsplat has 1/255.
        min_transmittance: A pixel ends before the Gaussian that would bring its transmittance to this (gsplat: 1e-4).
        backend: auto: numba on the CPU, triton on CUDA if it is installed, else torch, the definition, which is slow.
    """

    near: float = 0.01
    eps2d: float = 0.3
    min_alpha: float = 1.0 / 255.0
    min_transmittance: float = 1e-4
    backend: Backend = "auto"

    def build(self) -> "SplatRenderer":
        """Return `render_gaussians` with these constants."""
        return partial(render_gaussians, config=self)


class SplatJob(NamedTuple):
    """What a backend renders: images of `size` (width, height); `probe` is added to the projected centres."""

    splats: GaussianTensors
    viewmats: Float[Tensor, "B 4 4"]
    intrinsics: Float[Tensor, "B 3 3"]
    background: Float[Tensor, "B 3"]
    probe: Float[Tensor, "B N 2"]
    size: tuple[int, int]
    config: SplatRendererConfig


def render_gaussians(
    scene: Splats,
    cameras: Cameras,
    background: Float[Tensor, "B 3"],
    means2d_probe: Float[Tensor, "B N 2"] | None = None,
    *,
    config: SplatRendererConfig | None = None,
) -> Render:
    """Render `scene` from `cameras` over one background colour a view, on the scene's device and in its dtype.

    Differentiable in the scene and in `background`. With `screen_probe(scene, cameras)` as probe, its `grad` is that of
    the projected centres after `backward()`, in 1/pixels.
    """
    config = config or SplatRendererConfig()
    tensors = scene.gaussians()
    like = tensors.means
    if background.shape != (len(cameras), 3):
        raise ValueError(
            f"Expected one background colour for each of {len(cameras)} views, shape ({len(cameras)}, 3), but got "
            f"{tuple(background.shape)}. Pass background.expand(len(cameras), 3)."
        )
    probe = like.new_zeros(len(cameras), len(tensors), 2) if means2d_probe is None else means2d_probe
    viewmats, intrinsics, background = (to_device(each, like) for each in (cameras.viewmats, cameras.K, background))
    job = SplatJob(tensors, viewmats, intrinsics, background, probe, (cameras.width, cameras.height), config)
    match pick_backend(config.backend, like):
        case "numba":
            from ._numba_splat import render_numba

            return render_numba(job)
        case "triton":
            from ._triton_splat import render_triton

            return render_triton(job)[0]
        case _:
            from ._torch_splat import render_torch

            return render_torch(job)


def screen_probe(scene: Splats, cameras: Cameras) -> Float[Tensor, "B N 2"]:
    """Return zeros to add to the projected centres (pixels): a leaf whose gradient is that of the centres."""
    means = scene.gaussians().means
    return torch.zeros(len(cameras), means.shape[0], 2, dtype=means.dtype, device=means.device, requires_grad=True)


def pick_backend(backend: Backend, like: Tensor) -> Backend:
    """Choose the backend for tensors such as `like`; `ValueError` if an explicit choice cannot work on them."""
    if backend == "numba" and not like.is_cpu:
        raise ValueError(
            f"The splatting backend 'numba' needs tensors on cpu, but the scene is on {like.device}. "
            f"Move the scene, or choose the backend 'auto'."
        )
    if backend == "torch" or backend == "numba":
        return backend
    return "triton" if uses_triton(backend, like) else "numba" if like.is_cpu else "torch"
