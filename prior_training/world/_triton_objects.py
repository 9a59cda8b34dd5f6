# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The world's objects inside the Triton kernel: the same formulas as `sdf` and `render`, same parameters.

The loops over parts read the objects' numbers as scalars, so a part's kind is a branch and not a mask.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import Float
from torch import Tensor

from . import sdf
from ._triton_textures import _noise, _shares
from .objects import NONE, PARTS, Objects

ROW = 46
"""Numbers of a part."""
HEAD = 17
"""Numbers of an object: tint (4), light (12), count of parts."""


def pack(objects: Objects) -> tuple[Float[Tensor, "N P 46"], Float[Tensor, "N 17"]]:
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
            objects.profile,
        ],
        dim=-1,
    )
    last = torch.arange(1, PARTS + 1, device=parts.device)
    used = ((objects.kind != NONE) * last).amax(1, keepdim=True).float()
    heads = torch.cat([objects.tint, objects.light, used], dim=-1)
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
def _knot(radius, gap):
    gap = tl.abs(gap)
    near = (1.5 * gap - 2.5) * gap * gap + 1.0
    far = ((-0.5 * gap + 2.5) * gap - 4.0) * gap + 2.0
    return radius * tl.where(gap < 1.0, near, tl.where(gap < 2.0, far, 0.0))


@triton.jit
def _lathe(row, x, y, z):
    half_x = tl.maximum(tl.load(row + 15), 1e-4)
    half_y = tl.maximum(tl.load(row + 16), 1e-4)
    half_z = tl.maximum(tl.load(row + 17), 1e-4)
    place = 2.5 * tl.minimum(tl.maximum(y / half_y, -1.0), 1.0) + 2.5
    r0 = tl.load(row + 40)
    r1 = tl.load(row + 41)
    r4 = tl.load(row + 44)
    r5 = tl.load(row + 45)
    radius = _knot(2.0 * r0 - r1, place + 1.0) + _knot(r0, place) + _knot(r1, place - 1.0)
    radius += _knot(tl.load(row + 42), place - 2.0) + _knot(tl.load(row + 43), place - 3.0)
    radius += _knot(r4, place - 4.0) + _knot(r5, place - 5.0) + _knot(2.0 * r5 - r4, place - 6.0)
    oval = z * half_x / half_z
    rounding = tl.load(row + 21)
    side = tl.sqrt(x * x + oval * oval + 1e-12) - half_x * tl.maximum(radius, 0.0)
    side = tl.load(row + 22) * (side - rounding) + rounding
    return _rectangle(side, tl.abs(y) - half_y, 0.0) - rounding


@triton.jit
def _angle_from_up(x, y):
    wide = tl.abs(x)
    height = tl.abs(y)
    ratio = tl.minimum(wide, height) / tl.maximum(tl.maximum(wide, height), 1e-9)
    square = ratio * ratio
    angle = ((-0.0464964749 * square + 0.15931422) * square - 0.327622764) * square * ratio + ratio
    angle = tl.where(wide > height, 1.5707964 - angle, angle)
    return tl.where(y < 0.0, 3.1415927 - angle, angle)


@triton.jit
def _star(row, x, y, z):
    half_x = tl.maximum(tl.load(row + 15), 1e-4)
    half_y = tl.maximum(tl.load(row + 16), 1e-4)
    half_z = tl.maximum(tl.load(row + 17), 1e-4)
    sector = tl.load(row + 40)
    v = y * half_x / half_y
    angle = _angle_from_up(x, v) / (2.0 * tl.maximum(sector, 1e-3))
    angle = 2.0 * sector * tl.abs(angle - tl.floor(angle + 0.5))
    length = tl.sqrt(x * x + v * v + 1e-12)
    to_x = length * tl.cos(angle) - half_x
    to_y = length * tl.sin(angle)
    side_x = half_x * (tl.load(row + 41) - 1.0)
    side_y = half_x * tl.load(row + 42)
    share = (to_x * side_x + to_y * side_y) / (side_x * side_x + side_y * side_y + 1e-12)
    share = tl.minimum(tl.maximum(share, 0.0), 1.0)
    gap_x = to_x - share * side_x
    gap_y = to_y - share * side_y
    gap = tl.sqrt(gap_x * gap_x + gap_y * gap_y + 1e-12)
    rounding = tl.load(row + 21)
    flat = tl.where(side_x * to_y - side_y * to_x > 0.0, 0.0 - gap, gap)
    flat = tl.load(row + 22) * (flat - rounding) + rounding
    return _rectangle(flat, tl.abs(z) - half_z, 0.0) - rounding


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
        side = tl.load(row + 22) * (side - rounding) + rounding
        distance = _rectangle(side, tl.abs(y) - half_y, 0.0) - rounding
    elif kind == 2.0:
        ux = x / half_x
        uy = y / half_y
        uz = z / half_z
        k0 = tl.sqrt(ux * ux + uy * uy + uz * uz + 1e-12)
        ux = ux / half_x
        uy = uy / half_y
        uz = uz / half_z
        distance = k0 * (k0 - 1.0) / tl.sqrt(ux * ux + uy * uy + uz * uz + 1e-12)
    elif kind == 4.0:
        distance = _lathe(row, x, y, z)
    elif kind == 5.0:
        distance = _star(row, x, y, z)
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
    rough = x * 0.0 + 1.0
    grain = tl.load(head + 15)
    if grain > 0.0:
        rough = 1.0 + grain * (2.0 * _noise(24.0 * x, 24.0 * y, 24.0 * z) - 1.0)
    return red * rough, green * rough, blue * rough


@triton.jit
def _openness(rows, count, x, y, z, gx, gy, gz, length, ROW: tl.constexpr):
    a = _distance(rows, count, x + 0.03 * gx, y + 0.03 * gy, z + 0.03 * gz, ROW) / (0.03 * length)
    b = _distance(rows, count, x + 0.08 * gx, y + 0.08 * gy, z + 0.08 * gz, ROW) / (0.08 * length)
    c = _distance(rows, count, x + 0.18 * gx, y + 0.18 * gy, z + 0.18 * gz, ROW) / (0.18 * length)
    return 0.35 * _unit(a) + 0.35 * _unit(b) + 0.3 * _unit(c)


@triton.jit
def _unit(value):
    return tl.minimum(tl.maximum(value, 0.0), 1.0)


@triton.jit
def _visibility(rows, count, x, y, z, lx, ly, lz, ROW: tl.constexpr, STEPS: tl.constexpr):
    depth = x * 0.0 + 0.03
    seen = x * 0.0 + 1.0
    for _step in range(STEPS):
        room = _distance(rows, count, x + depth * lx, y + depth * ly, z + depth * lz, ROW)
        seen = tl.minimum(seen, 6.0 * room / depth)
        depth += tl.minimum(tl.maximum(room, 0.02), 0.12)
    return _unit(seen)


@triton.jit
def _lights(rows, head, count, x, y, z, vx, vy, vz, ROW: tl.constexpr, SHADOW_STEPS: tl.constexpr):
    """The light in red, green and blue, and the highlight; v points to the eye."""
    e: tl.constexpr = 1e-3
    a = _distance(rows, count, x + e, y - e, z - e, ROW)
    b = _distance(rows, count, x - e, y - e, z + e, ROW)
    c = _distance(rows, count, x - e, y + e, z - e, ROW)
    d = _distance(rows, count, x + e, y + e, z + e, ROW)
    nx = a - b - c + d
    ny = c + d - a - b
    nz = b + d - a - c
    length = tl.maximum(tl.sqrt(nx * nx + ny * ny + nz * nz), 1e-9)
    nx = nx / length
    ny = ny / length
    nz = nz / length
    lx = tl.load(head + 6)
    ly = tl.load(head + 7)
    lz = tl.load(head + 8)
    room = x * 0.0 + 1.0
    seen = x * 0.0 + 1.0
    occlusion = tl.load(head + 10)
    if occlusion > 0.0:
        slope = tl.maximum(length / (4.0 * e), 1e-3)
        room = 1.0 - occlusion * (1.0 - _openness(rows, count, x, y, z, nx, ny, nz, slope, ROW))
    shadow = tl.load(head + 11)
    if shadow > 0.0:
        seen = 1.0 - shadow * (1.0 - _visibility(rows, count, x, y, z, lx, ly, lz, ROW, SHADOW_STEPS))
    at_camera = tl.abs(nx * vx + ny * vy + nz * vz)
    fixed = tl.maximum(nx * lx + ny * ly + nz * lz, 0.0) * seen
    ambient = tl.load(head + 4)
    light = ambient + (1.0 - ambient) * (at_camera + tl.load(head + 5) * (fixed - at_camera))
    light = light * (1.0 + tl.load(head + 12) * ny)
    warm = tl.load(head + 13)
    back = tl.load(head + 14) * tl.maximum(0.3 * ny - nx * lx - nz * lz, 0.0)
    hx = lx + vx
    hy = ly + vy
    hz = lz + vz
    half = tl.maximum(nx * hx + ny * hy + nz * hz, 0.0) / tl.sqrt(hx * hx + hy * hy + hz * hz + 1e-12)
    power8 = half * half * half * half
    power8 = power8 * power8
    red = (light * (1.0 + warm) + back * (1.0 - warm)) * room
    blue = (light * (1.0 - warm) + back * (1.0 + warm)) * room
    return red, (light + back) * room, blue, tl.load(head + 9) * seen * power8 * power8 * power8
