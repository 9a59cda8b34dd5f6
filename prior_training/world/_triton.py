# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""The world's sphere tracer as one Triton kernel; imported lazily, on a GPU.

Each program traces a square of TILE x TILE pixels of one view, one ray per pixel and supersample after the other.
"""

import torch
import triton
import triton.language as tl
from jaxtyping import UInt8
from torch import Tensor

from hash3d.cameras import Cameras

from ._triton_objects import HEAD, ROW, _albedo, _distance, _lights, pack
from .objects import PARTS, Objects
from .render import FACTOR, NEAR, REACH, STEPS
from .sdf import SHADOW_STEPS

TILE = 16
"""Pixels of a side of the square that one program renders."""


@triton.jit
def _clamp(value):
    return tl.minimum(tl.maximum(value, 0.0), 1.0)


@triton.jit
def _ray(camera, u, v):
    """The unit direction through (u, v, 1) of a camera whose rows are right, down, forward, eye."""
    inverse = 1.0 / tl.sqrt(u * u + v * v + 1.0)
    dx = (u * tl.load(camera) + v * tl.load(camera + 3) + tl.load(camera + 6)) * inverse
    dy = (u * tl.load(camera + 1) + v * tl.load(camera + 4) + tl.load(camera + 7)) * inverse
    dz = (u * tl.load(camera + 2) + v * tl.load(camera + 5) + tl.load(camera + 8)) * inverse
    return dx, dy, dz


@triton.jit
def _trace(
    rows,
    count,
    ex,
    ey,
    ez,
    dx,
    dy,
    dz,
    ROW: tl.constexpr,
    STEPS: tl.constexpr,
    FACTOR: tl.constexpr,
    NEAR: tl.constexpr,
    REACH: tl.constexpr,
):
    """Sphere tracing through the ball of radius REACH: the depth reached, and 1 where it is a surface."""
    nearest = -(ex * dx + ey * dy + ez * dz)
    mx = ex + nearest * dx
    my = ey + nearest * dy
    mz = ez + nearest * dz
    half = tl.sqrt(tl.maximum(REACH * REACH - (mx * mx + my * my + mz * mz), 0.0))
    depth = nearest - half
    far = nearest + half
    alive = tl.where(half > 0.0, 1, 0)
    hit = alive * 0
    step = 0
    while (step < STEPS) & (tl.sum(alive) > 0):
        distance = _distance(rows, count, ex + depth * dx, ey + depth * dy, ez + depth * dz, ROW)
        touch = (alive > 0) & (distance < NEAR)
        hit = tl.where(touch, 1, hit)
        alive = tl.where(touch, 0, alive)
        depth = tl.where(alive > 0, depth + FACTOR * distance, depth)
        alive = tl.where(depth < far, alive, 0)
        step += 1
    return depth, hit


@triton.jit
def _color(rows, head, count, ex, ey, ez, dx, dy, dz, depth, hit, ROW: tl.constexpr, SHADOW_STEPS: tl.constexpr):
    """The colour of what rays hit at their depth, white where they hit nothing."""
    r = depth * 0.0
    g = depth * 0.0
    b = depth * 0.0
    h = depth * 0.0
    if tl.sum(hit) > 0:
        x = ex + depth * dx
        y = ey + depth * dy
        z = ez + depth * dz
        r, g, b = _albedo(rows, head, count, x, y, z, ROW)
        lr, lg, lb, h = _lights(rows, head, count, x, y, z, -dx, -dy, -dz, ROW, SHADOW_STEPS)
        r = r * lr
        g = g * lg
        b = b * lb
    solid = hit > 0
    return (
        tl.where(solid, _clamp(r + h), 1.0),
        tl.where(solid, _clamp(g + h), 1.0),
        tl.where(solid, _clamp(b + h), 1.0),
    )


@triton.jit
def _kernel(
    parts_pointer,
    heads_pointer,
    cameras_pointer,
    out_pointer,
    size,
    focal,
    PARTS: tl.constexpr,
    ROW: tl.constexpr,
    HEAD: tl.constexpr,
    TILE: tl.constexpr,
    SAMPLES: tl.constexpr,
    STEPS: tl.constexpr,
    FACTOR: tl.constexpr,
    NEAR: tl.constexpr,
    REACH: tl.constexpr,
    SHADOW_STEPS: tl.constexpr,
):
    view = tl.program_id(0).to(tl.int64)
    tiles = size // TILE
    index = tl.arange(0, TILE * TILE)
    column = (tl.program_id(1) % tiles) * TILE + index % TILE
    line = (tl.program_id(1) // tiles) * TILE + index // TILE
    rows = parts_pointer + view * PARTS * ROW
    head = heads_pointer + view * HEAD
    camera = cameras_pointer + view * 12
    count = tl.load(head + 16).to(tl.int32)
    ex = tl.load(camera + 9)
    ey = tl.load(camera + 10)
    ez = tl.load(camera + 11)
    red = tl.zeros([TILE * TILE], dtype=tl.float32)
    green = tl.zeros([TILE * TILE], dtype=tl.float32)
    blue = tl.zeros([TILE * TILE], dtype=tl.float32)
    cover = tl.zeros([TILE * TILE], dtype=tl.float32)
    for sample in range(SAMPLES * SAMPLES):
        u = (column + (sample % SAMPLES + 0.5) / SAMPLES - 0.5 * size) / focal
        v = (line + (sample // SAMPLES + 0.5) / SAMPLES - 0.5 * size) / focal
        dx, dy, dz = _ray(camera, u, v)
        depth, hit = _trace(rows, count, ex, ey, ez, dx, dy, dz, ROW, STEPS, FACTOR, NEAR, REACH)
        r, g, b = _color(rows, head, count, ex, ey, ez, dx, dy, dz, depth, hit, ROW, SHADOW_STEPS)
        red += r
        green += g
        blue += b
        cover += tl.where(hit > 0, 1.0, 0.0)
    scale = 255.0 / (SAMPLES * SAMPLES)
    out = out_pointer + ((view * size + line) * size + column) * 4
    tl.store(out, (red * scale + 0.5).to(tl.uint8))
    tl.store(out + 1, (green * scale + 0.5).to(tl.uint8))
    tl.store(out + 2, (blue * scale + 0.5).to(tl.uint8))
    tl.store(out + 3, (cover * scale + 0.5).to(tl.uint8))


def render_triton(objects: Objects, cameras: Cameras, samples: int = 2) -> UInt8[Tensor, "V H W 4"]:
    """`render.render_torch`, fast. The pictures are square; a side is a multiple of TILE."""
    size, device = cameras.height, objects.kind.device
    if cameras.width != size or size % TILE:
        raise ValueError(
            f"Expected square pictures with a multiple of {TILE} pixels a side, but got {cameras.width}x{size}."
        )
    parts, heads = pack(objects)
    axes = cameras.c2w[:, :3].transpose(1, 2).reshape(len(cameras), 12).contiguous().to(device)
    out = torch.empty(len(cameras), size, size, 4, dtype=torch.uint8, device=device)
    _kernel[(len(cameras), (size // TILE) ** 2)](
        parts,
        heads,
        axes,
        out,
        size,
        float(cameras.K[0, 0, 0]),
        PARTS=PARTS,
        ROW=ROW,
        HEAD=HEAD,
        TILE=TILE,
        SAMPLES=samples,
        STEPS=STEPS,
        FACTOR=FACTOR,
        NEAR=NEAR,
        REACH=REACH,
        SHADOW_STEPS=SHADOW_STEPS,
    )
    return out
