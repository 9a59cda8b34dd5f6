"""Signed distances of the procedural world, in PyTorch: the definition that the Triton kernel must equal.

Formulas after Inigo Quilez, "Distance functions" (iquilezles.org/articles/distfunctions): rounded boxes, the
approximate ellipsoid, polynomial smooth union and subtraction. Tapered columns are bounds: hence a step factor below 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.priors.world.objects import COLUMN, ELLIPSOID, NONE, PARTS, SUBTRACT, Objects
from hash3d.priors.world.textures import albedo


def steepness(objects: Objects) -> Float[Tensor, "N P"]:
    """Cosine of the steepest slope of each column's side: the factor that keeps its distance a bound."""
    wide = objects.size[..., [0, 2]].amax(-1)
    slope = wide * (objects.taper.abs() + 2 * objects.bulge.abs()) / objects.size[..., 1].clamp(min=1e-4)
    return (1 + slope * slope).rsqrt()


def _rectangle(u: Tensor, v: Tensor, corner: Tensor) -> Tensor:
    """Distance to a rounded rectangle; u and v are |x| minus the half sizes."""
    a, b = u + corner, v + corner
    outside = (a.clamp(min=0) ** 2 + b.clamp(min=0) ** 2 + 1e-12).sqrt()
    return outside + torch.maximum(a, b).clamp(max=0) - corner


def _local(objects: Objects, part: int, points: Float[Tensor, "V M 3"]) -> Float[Tensor, "V M 3"]:
    return torch.einsum("vij,vmi->vmj", objects.rotation[:, part], points - objects.centre[:, part, None])


def _part(objects: Objects, part: int, local: Float[Tensor, "V M 3"], cosine: Tensor) -> Float[Tensor, "V M"]:
    """Distance to one part of each of V objects."""
    x, y, z = local.unbind(-1)
    half_x, half_y, half_z = (half[:, None] for half in objects.size[:, part].unbind(-1))
    corner, rounding = objects.corner[:, part, None], objects.rounding[:, part, None]
    height = (y / half_y.clamp(min=1e-4)).clamp(-1, 1)
    profile = 1 + objects.taper[:, part, None] * height + objects.bulge[:, part, None] * (1 - height * height)
    side = cosine[:, None] * _rectangle(x.abs() - profile * half_x, z.abs() - profile * half_z, profile * corner)
    column = _rectangle(side, y.abs() - half_y, torch.zeros_like(side)) - rounding
    ring_side = _rectangle(x.abs() - half_x, y.abs() - half_y, corner)
    ring = (ring_side**2 + z**2 + 1e-12).sqrt() - rounding
    k0 = ((x / half_x) ** 2 + (y / half_y) ** 2 + (z / half_z) ** 2 + 1e-12).sqrt()
    k1 = ((x / half_x**2) ** 2 + (y / half_y**2) ** 2 + (z / half_z**2) ** 2 + 1e-12).sqrt()
    kind = objects.kind[:, part, None]
    return torch.where(kind == COLUMN, column, torch.where(kind == ELLIPSOID, k0 * (k0 - 1) / k1, ring))


def _combine(objects: Objects, part: int, before: Tensor, distance: Tensor) -> tuple[Tensor, Tensor]:
    """Distance after adding one part, and the share of that part's colour."""
    radius = objects.smooth[:, part, None].clamp(min=1e-5)
    subtract = (objects.operation[:, part] == SUBTRACT)[:, None]
    other = torch.where(subtract, -distance, distance)
    gap = torch.where(subtract, other - before, before - other)
    share = (0.5 + 0.5 * gap / radius).clamp(0, 1)
    bend = radius * share * (1 - share)
    after = before + share * (other - before) + torch.where(subtract, bend, -bend)
    absent = (objects.kind[:, part] == NONE)[:, None]
    return torch.where(absent, before, after), torch.where(absent, torch.zeros_like(share), share)


def distance(objects: Objects, points: Float[Tensor, "V M 3"]) -> Float[Tensor, "V M"]:
    """Signed distance (or a bound) of M points to each of V objects."""
    cosines = steepness(objects)
    total = torch.full(points.shape[:2], 10.0, device=points.device)
    for part in range(PARTS):
        if bool((objects.kind[:, part] == NONE).all()):
            continue
        each = _part(objects, part, _local(objects, part, points), cosines[:, part])
        total, _ = _combine(objects, part, total, each)
    return total


def color(objects: Objects, points: Float[Tensor, "V M 3"]) -> Float[Tensor, "V M 3"]:
    """Albedo at M points on the surface of each of V objects."""
    cosines = steepness(objects)
    total = torch.full(points.shape[:2], 10.0, device=points.device)
    mixed = torch.zeros_like(points)
    for part in range(PARTS):
        local = _local(objects, part, points)
        each = _part(objects, part, local, cosines[:, part])
        total, share = _combine(objects, part, total, each)
        extent = objects.size[:, part] + objects.rounding[:, part, None]
        q = local / extent[:, None].clamp(min=1e-4)
        here = albedo(
            objects.pattern[:, part], q, objects.axis[:, part], objects.numbers[:, part], objects.colors[:, part]
        )
        mixed = mixed + share[..., None] * (here - mixed)
    low = (0.5 - 1.6 * points[..., 1:2]).clamp(0, 1) * objects.tint[:, None, 3:]
    return mixed + low * (objects.tint[:, None, :3] - mixed)


def normal(objects: Objects, points: Float[Tensor, "V M 3"], step: float = 1e-3) -> Float[Tensor, "V M 3"]:
    """Unit normals by four distances at the corners of a tetrahedron."""
    corners = torch.tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], dtype=points.dtype, device=points.device)
    total = torch.zeros_like(points)
    for corner in corners:
        total = total + corner * distance(objects, points + step * corner)[..., None]
    unit: Tensor = total / total.norm(dim=-1, keepdim=True).clamp(min=1e-9)
    return unit
