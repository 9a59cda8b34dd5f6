# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The world's objects inside the Triton kernel: the same formulas as `sdf`, `textures` and `render`, same parameters.

The loops over parts read the objects' numbers as scalars, so a part's kind is a branch and not a mask.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from hash3d.priors.world import sdf
from hash3d.priors.world.objects import NONE, PARTS, Objects

ROW = 40
"""Numbers of a part."""
HEAD = 12
"""Numbers of an object: tint (4), light (6), count of parts, padding."""


def pack(objects: Objects) -> tuple[Float[Tensor, "N P 40"], Float[Tensor, "N 12"]]:
    """The objects as two tables of floats."""
    count = len(objects)
    parts = torch.cat(
        [
            torch.stack([objects.kind.float(), objects.operation.float(), objects.smooth.clamp(min=1e-5)], -1),
            objects.centre,
            objects.rotation.transpose(-1, -2).reshape(count, PARTS, 9),
            objects.size,
            torch.stack([objects.corner, objects.taper, objects.bulge, objects.rounding, sdf.steepness(objects)], -1),
            objects.pattern.float()[..., None],
            objects.colors.reshape(count, PARTS, 9),
            objects.axis,
            objects.numbers,
        ],
        dim=-1,
    )
    last = torch.arange(1, PARTS + 1, device=parts.device)
    used = ((objects.kind != NONE) * last).amax(1, keepdim=True).float()
    heads = torch.cat([objects.tint, objects.light, used, torch.zeros_like(used)], dim=-1)
    return parts.contiguous(), heads.contiguous()


@triton.jit
def _rectangle(u, v, corner):
    a = u + corner
    b = v + corner
    positive_a = tl.maximum(a, 0.0)
    positive_b = tl.maximum(b, 0.0)
    outside = tl.sqrt(positive_a * positive_a + positive_b * positive_b + 1e-12)
    return outside + tl.minimum(tl.maximum(a, b), 0.0) - corner


@triton.jit
def _local(row, x, y, z):
    dx = x - tl.load(row + 3)
    dy = y - tl.load(row + 4)
    dz = z - tl.load(row + 5)
    lx = tl.load(row + 6) * dx + tl.load(row + 7) * dy + tl.load(row + 8) * dz
    ly = tl.load(row + 9) * dx + tl.load(row + 10) * dy + tl.load(row + 11) * dz
    lz = tl.load(row + 12) * dx + tl.load(row + 13) * dy + tl.load(row + 14) * dz
    return lx, ly, lz


@triton.jit
def _part(row, kind, x, y, z):
    half_x = tl.load(row + 15)
    half_y = tl.load(row + 16)
    half_z = tl.load(row + 17)
    corner = tl.load(row + 18)
    rounding = tl.load(row + 21)
    distance = x
    if kind == 1.0:
        height = tl.minimum(tl.maximum(y / tl.maximum(half_y, 1e-4), -1.0), 1.0)
        profile = 1.0 + tl.load(row + 19) * height + tl.load(row + 20) * (1.0 - height * height)
        side = _rectangle(tl.abs(x) - profile * half_x, tl.abs(z) - profile * half_z, profile * corner)
        distance = _rectangle(tl.load(row + 22) * side, tl.abs(y) - half_y, 0.0) - rounding
    elif kind == 2.0:
        ux = x / half_x
        uy = y / half_y
        uz = z / half_z
        k0 = tl.sqrt(ux * ux + uy * uy + uz * uz + 1e-12)
        ux = ux / half_x
        uy = uy / half_y
        uz = uz / half_z
        distance = k0 * (k0 - 1.0) / tl.sqrt(ux * ux + uy * uy + uz * uz + 1e-12)
    else:
        across = _rectangle(tl.abs(x) - half_x, tl.abs(y) - half_y, corner)
        distance = tl.sqrt(across * across + z * z + 1e-12) - rounding
    return distance


@triton.jit
def _combine(row, before, distance):
    """Distance after adding a part, and the share of its colour."""
    radius = tl.load(row + 2)
    sign = 1.0 - 2.0 * tl.load(row + 1)
    other = sign * distance
    share = tl.minimum(tl.maximum(0.5 + 0.5 * sign * (before - other) / radius, 0.0), 1.0)
    return before + share * (other - before) - sign * radius * share * (1.0 - share), share


@triton.jit
def _distance(rows, count, x, y, z, ROW: tl.constexpr):
    total = x * 0.0 + 10.0
    for part in range(count):
        row = rows + part * ROW
        kind = tl.load(row)
        if kind > 0.0:
            lx, ly, lz = _local(row, x, y, z)
            each = _part(row, kind, lx, ly, lz)
            total, _share = _combine(row, total, each)
    return total


@triton.jit
def _shares(row, x, y, z):
    """Shares of the second and third colour (textures.py)."""
    pattern = tl.load(row + 23)
    n0 = tl.load(row + 36)
    n1 = tl.load(row + 37)
    n2 = tl.load(row + 38)
    n3 = tl.load(row + 39)
    along = x * tl.load(row + 33) + y * tl.load(row + 34) + z * tl.load(row + 35)
    second = x * 0.0
    third = x * 0.0
    if pattern == 1.0:
        second = tl.sin(n0 * along + n1) * n2 + 0.5 + n3
    elif pattern == 2.0:
        second = tl.sin(n0 * x + n1) * tl.sin(n0 * y + n1) * tl.sin(n0 * z + n1) * n2 * 4.0 + 0.5
    elif pattern == 3.0:
        second = 0.5 + 0.5 * n0 * along + n1
    elif pattern == 4.0:
        warped = tl.sin(n0 * along + n1 + 2.0 * tl.sin(0.7 * n0 * y + n3))
        second = warped * tl.sin(1.3 * n0 * z + 2.0 * n1 + 1.5 * tl.sin(0.9 * n0 * x + n3)) * n2 + 0.5
    elif pattern == 5.0:
        inside = (tl.abs(x) < n0) & (tl.abs(y - n1) < n2) & (z > 0.0)
        second = tl.where(inside, 1.0, 0.0)
        lines = n3 * (y - n1)
        text = (tl.sin(lines) > 0.25) & (tl.sin(1.7 * n3 * x + 3.0 * tl.floor(lines / 6.2832)) > -0.35)
        third = tl.where(inside & text, 1.0, 0.0)
    elif pattern == 6.0:
        cx = n0 * x + n1
        cy = n0 * y + n1
        cz = n0 * z + n1
        cx = cx - tl.floor(cx) - 0.5
        cy = cy - tl.floor(cy) - 0.5
        cz = cz - tl.floor(cz) - 0.5
        second = tl.where(cx * cx + cy * cy + cz * cz < n2 * n2, 1.0, 0.0)
    elif pattern == 7.0:
        second = tl.where(tl.abs(along - n0) < n1, 1.0, 0.0)
        third = tl.where(tl.abs(along - n0) < n2, 1.0, 0.0)
    elif pattern == 8.0:
        second = tl.where(along > n0, 1.0, 0.0)
    elif pattern == 9.0:
        bx = x / 0.6
        by = (y - n3) / 0.5
        second = tl.where((bx * bx + by * by < 1.0) & (z > 0.0), 1.0, 0.0)
        ex = tl.abs(x) - n0
        ey = y - n1
        third = tl.where((ex * ex + ey * ey < n2 * n2) & (z > 0.0), 1.0, 0.0)
    return tl.minimum(tl.maximum(second, 0.0), 1.0), third


@triton.jit
def _paint(row, channel: tl.constexpr, mixed, second, third, share):
    first = tl.load(row + 24 + channel)
    own = first + second * (tl.load(row + 27 + channel) - first)
    own = own + third * (tl.load(row + 30 + channel) - own)
    return mixed + share * (own - mixed)


@triton.jit
def _albedo(rows, head, count, x, y, z, ROW: tl.constexpr):
    total = x * 0.0 + 10.0
    red = x * 0.0
    green = x * 0.0
    blue = x * 0.0
    for part in range(count):
        row = rows + part * ROW
        kind = tl.load(row)
        if kind > 0.0:
            lx, ly, lz = _local(row, x, y, z)
            each = _part(row, kind, lx, ly, lz)
            total, share = _combine(row, total, each)
            rounding = tl.load(row + 21)
            qx = lx / tl.maximum(tl.load(row + 15) + rounding, 1e-4)
            qy = ly / tl.maximum(tl.load(row + 16) + rounding, 1e-4)
            qz = lz / tl.maximum(tl.load(row + 17) + rounding, 1e-4)
            second, third = _shares(row, qx, qy, qz)
            red = _paint(row, 0, red, second, third, share)
            green = _paint(row, 1, green, second, third, share)
            blue = _paint(row, 2, blue, second, third, share)
    low = tl.minimum(tl.maximum(0.5 - 1.6 * y, 0.0), 1.0) * tl.load(head + 3)
    red = red + low * (tl.load(head) - red)
    green = green + low * (tl.load(head + 1) - green)
    blue = blue + low * (tl.load(head + 2) - blue)
    return red, green, blue


@triton.jit
def _lights(rows, head, count, x, y, z, vx, vy, vz, ROW: tl.constexpr):
    """The light's factor and the highlight; v points to the eye."""
    e: tl.constexpr = 1e-3
    a = _distance(rows, count, x + e, y - e, z - e, ROW)
    b = _distance(rows, count, x - e, y - e, z + e, ROW)
    c = _distance(rows, count, x - e, y + e, z - e, ROW)
    d = _distance(rows, count, x + e, y + e, z + e, ROW)
    nx = a - b - c + d
    ny = c + d - a - b
    nz = b + d - a - c
    length = tl.maximum(tl.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
    lx = tl.load(head + 6)
    ly = tl.load(head + 7)
    lz = tl.load(head + 8)
    at_camera = tl.abs(nx * vx + ny * vy + nz * vz) / length
    fixed = tl.maximum(nx * lx + ny * ly + nz * lz, 0.0) / length
    ambient = tl.load(head + 4)
    light = ambient + (1.0 - ambient) * (at_camera + tl.load(head + 5) * (fixed - at_camera))
    hx = lx + vx
    hy = ly + vy
    hz = lz + vz
    half = tl.maximum(nx * hx + ny * hy + nz * hz, 0.0) / (length * tl.sqrt(hx * hx + hy * hy + hz * hz + 1e-12))
    power8 = half * half * half * half
    power8 = power8 * power8
    return light, tl.load(head + 9) * power8 * power8 * power8
