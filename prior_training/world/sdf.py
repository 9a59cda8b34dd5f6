"""Signed distances of the procedural world, in PyTorch: the definition that the Triton kernel must equal.

Formulas after Inigo Quilez, "Distance functions" (iquilezles.org/articles/distfunctions): rounded boxes, the
approximate ellipsoid, stars, polynomial smooth union and subtraction. Tapered columns and lathes are bounds: hence a
step factor below 1.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from .objects import COLUMN, LATHE, NONE, PARTS, RING, STAR, SUBTRACT, Objects, turned
from .textures import albedo


def steepness(objects: Objects) -> Float[Tensor, "N P"]:
    """Factor that keeps the distance a bound: the cosine of a side's steepest slope, and for ovals the flattening."""
    half_x, half_y, half_z = objects.size.clamp(min=1e-4).unbind(-1)
    wide = torch.maximum(half_x, half_z)
    slope = objects.taper.abs() + 2 * objects.bulge.abs()
    place = torch.linspace(0, 5, 61, device=half_x.device).expand(*objects.kind.shape, 61)
    curve = turned(objects.profile, place).diff(dim=-1).abs().amax(-1) * 30
    slope = torch.where(objects.kind == LATHE, curve, slope) * wide / half_y
    cosine = (1 + slope * slope).rsqrt()
    oval = torch.minimum(half_x, half_z) / wide
    flat = torch.minimum(half_x, half_y) / torch.maximum(half_x, half_y)
    return torch.where(objects.kind == STAR, flat, torch.where(objects.kind == LATHE, oval * cosine, cosine))


def _rectangle(u: Tensor, v: Tensor, corner: Tensor) -> Tensor:
    """Distance to a rounded rectangle; u and v are |x| minus the half sizes."""
    a, b = u + corner, v + corner
    outside = (a.clamp(min=0) ** 2 + b.clamp(min=0) ** 2 + 1e-12).sqrt()
    return outside + torch.maximum(a, b).clamp(max=0) - corner


def _slower(side: Tensor, cosine: Tensor, rounding: Tensor) -> Tensor:
    """A distance to a side made a bound; where it equals the rounding, on the surface, it stays."""
    return cosine * (side - rounding) + rounding


def _local(objects: Objects, part: int, points: Float[Tensor, "V M 3"]) -> Float[Tensor, "V M 3"]:
    return torch.einsum("vij,vmi->vmj", objects.rotation[:, part], points - objects.centre[:, part, None])


def _part(objects: Objects, part: int, local: Float[Tensor, "V M 3"], cosine: Tensor) -> Float[Tensor, "V M"]:
    """Distance to one part of each of V objects."""
    x, y, z = local.unbind(-1)
    half_x, half_y, half_z = (half[:, None] for half in objects.size[:, part].unbind(-1))
    corner, rounding = objects.corner[:, part, None], objects.rounding[:, part, None]
    height = (y / half_y.clamp(min=1e-4)).clamp(-1, 1)
    profile = 1 + objects.taper[:, part, None] * height + objects.bulge[:, part, None] * (1 - height * height)
    side = _rectangle(x.abs() - profile * half_x, z.abs() - profile * half_z, profile * corner)
    side = _slower(side, cosine[:, None], rounding)
    column = _rectangle(side, y.abs() - half_y, torch.zeros_like(side)) - rounding
    ring_side = _rectangle(x.abs() - half_x, y.abs() - half_y, corner)
    ring = (ring_side**2 + z**2 + 1e-12).sqrt() - rounding
    k0 = ((x / half_x) ** 2 + (y / half_y) ** 2 + (z / half_z) ** 2 + 1e-12).sqrt()
    k1 = ((x / half_x**2) ** 2 + (y / half_y**2) ** 2 + (z / half_z**2) ** 2 + 1e-12).sqrt()
    total = k0 * (k0 - 1) / k1
    kind = objects.kind[:, part, None]
    for here, those in ((COLUMN, column), (RING, ring)):
        total = torch.where(kind == here, those, total)
    for here, shape in ((LATHE, _lathe), (STAR, _star)):
        if bool((kind == here).any()):
            total = torch.where(kind == here, shape(objects, part, local, cosine[:, None]), total)
    return total


def _lathe(objects: Objects, part: int, local: Float[Tensor, "V M 3"], cosine: Tensor) -> Float[Tensor, "V M"]:
    x, y, z = local.unbind(-1)
    half_x, half_y, half_z = (half[:, None].clamp(min=1e-4) for half in objects.size[:, part].unbind(-1))
    place = 2.5 * (y / half_y).clamp(-1, 1) + 2.5
    oval = z * half_x / half_z
    rounding = objects.rounding[:, part, None]
    side = (x * x + oval * oval + 1e-12).sqrt() - half_x * turned(objects.profile[:, part], place)
    side = _slower(side, cosine, rounding)
    return _rectangle(side, y.abs() - half_y, torch.zeros_like(side)) - rounding


def angle_from_up(x: Tensor, y: Tensor) -> Tensor:
    """Absolute angle between (x, y) and +y in radians, to 3e-4: an odd polynomial, so that Triton can have the same."""
    x, height = x.abs(), y.abs()
    ratio = torch.minimum(x, height) / torch.maximum(x, height).clamp(min=1e-9)
    square = ratio * ratio
    angle = ((-0.0464964749 * square + 0.15931422) * square - 0.327622764) * square * ratio + ratio
    angle = torch.where(x > height, 0.5 * math.pi - angle, angle)
    return torch.where(y < 0, math.pi - angle, angle)


def _star(objects: Objects, part: int, local: Float[Tensor, "V M 3"], cosine: Tensor) -> Float[Tensor, "V M"]:
    """A point folded into one half of one point of the star, whose side runs from (half_x, 0) to the dent."""
    x, y, z = local.unbind(-1)
    half_x, half_y, half_z = (half[:, None].clamp(min=1e-4) for half in objects.size[:, part].unbind(-1))
    sector, dent_x, dent_y = (number[:, None] for number in objects.profile[:, part, :3].unbind(-1))
    y = y * half_x / half_y
    angle = angle_from_up(x, y) / (2 * sector.clamp(min=1e-3))
    angle = 2 * sector * (angle - (angle + 0.5).floor()).abs()
    length = (x * x + y * y + 1e-12).sqrt()
    to_x, to_y = length * angle.cos() - half_x, length * angle.sin()
    side_x, side_y = half_x * (dent_x - 1), half_x * dent_y
    share = ((to_x * side_x + to_y * side_y) / (side_x * side_x + side_y * side_y + 1e-12)).clamp(0, 1)
    gap_x, gap_y = to_x - share * side_x, to_y - share * side_y
    gap = (gap_x * gap_x + gap_y * gap_y + 1e-12).sqrt()
    rounding = objects.rounding[:, part, None]
    flat = _slower(torch.where(side_x * to_y - side_y * to_x > 0, -gap, gap), cosine, rounding)
    return _rectangle(flat, z.abs() - half_z, torch.zeros_like(flat)) - rounding


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


def gradient(objects: Objects, points: Float[Tensor, "V M 3"], step: float = 1e-3) -> Float[Tensor, "V M 3"]:
    """Gradient of the distance, from its values at the corners of a tetrahedron."""
    corners = torch.tensor([[1, -1, -1], [-1, -1, 1], [-1, 1, -1], [1, 1, 1]], dtype=points.dtype, device=points.device)
    total = torch.zeros_like(points)
    for corner in corners:
        total = total + corner * distance(objects, points + step * corner)[..., None]
    return total / (4 * step)


OCCLUSION = ((0.03, 0.35), (0.08, 0.35), (0.18, 0.3))
"""Distances along the normal at which room is looked for, and the weight of each."""
SHADOW_STEPS, SHADOW_FROM, SHADOW_SHARPNESS = 12, 0.03, 6.0


def openness(objects: Objects, points: Float[Tensor, "V M 3"], slope: Float[Tensor, "V M 3"]) -> Float[Tensor, "V M"]:
    """Share of room around points of the surface, by the distances along the normal (Quilez, "Ambient occlusion").

    `slope`: the gradient there. Distances are bounds; over its length they are nearly true ones.
    """
    length = slope.norm(dim=-1, keepdim=True).clamp(min=1e-3)
    free = torch.zeros_like(points[..., 0])
    for height, weight in OCCLUSION:
        there = distance(objects, points + height * slope / length) / length[..., 0]
        free = free + weight * (there / height).clamp(0, 1)
    return free


def visibility(objects: Objects, points: Float[Tensor, "V M 3"], lamp: Float[Tensor, "V M 3"]) -> Float[Tensor, "V M"]:
    """How much of a wide lamp is seen: the narrowest of the cones on the way (Quilez, "Soft shadows")."""
    depth, seen = torch.full_like(points[..., 0], SHADOW_FROM), torch.ones_like(points[..., 0])
    for _ in range(SHADOW_STEPS):
        room = distance(objects, points + depth[..., None] * lamp)
        seen = torch.minimum(seen, SHADOW_SHARPNESS * room / depth)
        depth = depth + room.clamp(0.02, 0.12)
    return seen.clamp(0, 1)
