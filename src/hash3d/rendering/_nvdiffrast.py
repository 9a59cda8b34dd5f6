"""Find the face that each pixel sees, on CUDA: the only file that imports nvdiffrast (Laine et al. 2020)."""

from functools import cache
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ._torch_raster import Projected


def visible_faces_nvdiffrast(projected: Projected, size: tuple[int, int]) -> Int[Tensor, "H W"]:
    """Compute `visible_faces`: the row of the nearest face at each pixel centre, -1 for none.

    Pixel centres on an edge and equal depths are decided by nvdiffrast's own rules.
    """
    width, height = size
    depths = projected.depths
    if not len(projected.faces):
        return torch.full((height, width), -1, dtype=torch.int64, device=depths.device)
    # Clip space with w = depth: rows grow with y, and z / w = 1 - 2 plane / depth is -1 at the plane and 1 far away.
    plane = 0.5 * depths[projected.faces].amin()
    x, y = (projected.screen * 2.0 / torch.tensor(size, device=depths.device) - 1.0).unbind(-1)
    clip = torch.stack([x * depths, y * depths, depths - 2.0 * plane, depths], dim=-1)
    nvdiffrast, context = _rasteriser(depths.device)
    buffer, _ = nvdiffrast.rasterize(
        context, clip[None].float().contiguous(), projected.faces.int().contiguous(), (height, width)
    )
    faces: Tensor = buffer[0, ..., 3].long() - 1
    return faces


@cache
def _rasteriser(device: torch.device) -> tuple[Any, Any]:
    """Return the library and its context on a device, made once."""
    try:
        import nvdiffrast.torch as nvdiffrast
    except ImportError as error:
        raise ImportError("The mesh backend 'nvdiffrast' is not installed. Install it, or choose 'torch'.") from error
    return nvdiffrast, nvdiffrast.RasterizeCudaContext(device=device)
