"""Views of the procedural world by sphere tracing: a plain PyTorch definition, and the choice of the fast kernel."""

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hash3d.cameras import Cameras

from . import sdf, textures
from .objects import Objects

STEPS = 72
"""Sphere-tracing steps at most."""
FACTOR = 0.9
"""Share of the distance that a step goes: the distances are bounds, and not everywhere strict ones."""
NEAR = 1e-3
"""A ray this close to a surface has hit it (scene units)."""
REACH = 0.53
"""Rays are traced inside this radius about the origin."""


def render(objects: Objects, cameras: Cameras, samples: int = 2) -> UInt8[Tensor, "V H W 4"]:
    """Object i seen by camera i: colour on white, and coverage, both from 0 to 255.

    `samples`: rays per pixel along each axis. On a CUDA device the Triton kernel does the work, elsewhere PyTorch.
    """
    if objects.kind.is_cuda:
        from ._triton import render_triton

        return render_triton(objects, cameras, samples)
    return render_torch(objects, cameras, samples)


def render_torch(objects: Objects, cameras: Cameras, samples: int = 2) -> UInt8[Tensor, "V H W 4"]:
    """The definition of `render`, one object after another."""
    fine = Cameras(
        elevation=cameras.elevation,
        azimuth=cameras.azimuth,
        radius=cameras.radius,
        fov_y=cameras.fov_y,
        width=cameras.width * samples,
        height=cameras.height * samples,
    )
    views = [_trace(objects[slice(i, i + 1)], fine[i]) for i in range(len(cameras))]
    pixels = torch.nn.functional.avg_pool2d(torch.cat(views).permute(0, 3, 1, 2), samples).permute(0, 2, 3, 1)
    return (pixels * 255 + 0.5).to(torch.uint8)


def _trace(one: Objects, camera: Cameras) -> Float[Tensor, "1 H W 4"]:
    """One view, one ray a pixel."""
    eyes, directions = (rays.reshape(1, -1, 3).to(one.kind.device) for rays in camera.rays())
    nearest = -(eyes * directions).sum(-1)
    half = (REACH**2 - (eyes + nearest[..., None] * directions).square().sum(-1)).clamp(min=0).sqrt()
    depth, far = nearest - half, nearest + half
    alive = half > 0
    hit = torch.zeros_like(alive)
    for _ in range(STEPS):
        distance = torch.full_like(depth, 10.0)
        distance[alive] = sdf.distance(one, (eyes + depth[..., None] * directions)[alive][None])[0]
        hit = hit | (alive & (distance < NEAR))
        depth = torch.where(alive & ~hit, depth + FACTOR * distance, depth)
        alive = alive & ~hit & (depth < far)
        if not bool(alive.any()):
            break
    pixels = torch.ones(*depth.shape, 4)
    pixels[..., 3] = 0.0
    if bool(hit.any()):
        points = (eyes + depth[..., None] * directions)[hit][None]
        pixels[hit, :3] = shade(one, points, -directions[hit][None])[0]
        pixels[hit, 3] = 1.0
    return pixels.reshape(1, camera.height, camera.width, 4)


def shade(
    objects: Objects, points: Float[Tensor, "V M 3"], towards_eye: Float[Tensor, "V M 3"]
) -> Float[Tensor, "V M 3"]:
    """Albedo times light, plus a Blinn-Phong highlight (exponent 24).

    The light is `ambient + (1 - ambient) * (|n.v| or, by its share, n.l with its shadow)`, more from above, less where
    there is no room, warm or cold; a second light from behind has the other warmth.
    """
    slope = sdf.gradient(objects, points)
    normals = torch.nn.functional.normalize(slope, dim=-1)
    ambient, share, x, y, z, specular, *photo = (each[:, None] for each in objects.light.unbind(-1))
    occlusion, shadow, above, warm, second, grain = photo
    lamp = torch.stack([x, y, z], dim=-1).expand_as(points)
    room, seen = torch.ones_like(points[..., 0]), torch.ones_like(points[..., 0])
    if bool((occlusion > 0).any()):
        room = 1 - occlusion * (1 - sdf.openness(objects, points, slope))
    if bool((shadow > 0).any()):
        seen = 1 - shadow * (1 - sdf.visibility(objects, points, lamp))
    at_camera = (normals * towards_eye).sum(-1).abs()
    fixed = (normals * lamp).sum(-1).clamp(min=0) * seen
    light = (ambient + (1 - ambient) * (at_camera + share * (fixed - at_camera))) * (1 + above * normals[..., 1])
    back = second * (normals[..., 0] * -x + normals[..., 1] * 0.3 - normals[..., 2] * z).clamp(min=0)
    tones = [(light * (1 + tone) + back * (1 - tone)) * room for tone in (warm, 0.0, -warm)]
    halfway = torch.nn.functional.normalize(lamp + towards_eye, dim=-1)
    highlight = specular * seen * (normals * halfway).sum(-1).clamp(min=0) ** 24
    rough = 1 + grain * (2 * textures.noise(*(24 * points).unbind(-1)) - 1)
    shaded: Tensor = (
        sdf.color(objects, points) * rough[..., None] * torch.stack(tones, -1) + highlight[..., None]
    ).clamp(0, 1)
    return shaded
