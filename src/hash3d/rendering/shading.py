"""Shade a scene: albedo, a Lambertian point light, or the light alone (textureless).

Poole et al. (2023), "DreamFusion", section 3.1; threestudio 28d9d80
(models/materials/diffuse_with_point_light_material.py). Splats, which have no normals, get them from differences of the
depth map, as in threestudio's Gaussian extension (gsstudio/renderer/rasterizer/diff_gaussian_rasterizer_shading.py),
but depths are divided by alpha, and differences are between pixels that show something.
"""

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.ranges import expect_range
from hash3d.tensors import to_device

from .base import Render

Kind = Literal["albedo", "textureless", "lambertian"]


@dataclass(frozen=True, kw_only=True)
class ShadingConfig:
    """How often the light is on, how strong it is, and where it is.

    Args:
        albedo_until: Before this step the colours are shown as they are.
        shaded_share: Share of the later steps with light.
        textureless_share: Share of the steps with light in which every surface is white.
        ambient: Light from everywhere.
        diffuse: Light of the point light on a surface that faces it.
        soft: Draw `diffuse` uniformly from [0, 1] at each step with light, `ambient` is 1 - `diffuse` (Magic3D).
        light: dreamfusion: in the direction of the eye plus a normal draw of variance 1 an axis; magic3d: at most 60
            degrees from the direction of the eye, uniform in that angle and around it.
        light_distance: Range of the distance of the light from the origin, in scene units.
    """

    albedo_until: int = 2001
    shaded_share: float = 0.75
    textureless_share: float = 0.5
    ambient: float = 0.1
    diffuse: float = 0.9
    soft: bool = False
    light: Literal["dreamfusion", "magic3d"] = "dreamfusion"
    light_distance: tuple[float, float] = (0.8, 1.5)

    def __post_init__(self) -> None:
        expect_range(self, "shaded_share textureless_share", at_least=0, at_most=1)
        expect_range(self, "ambient diffuse", at_least=0)
        if not 0.0 < self.light_distance[0] <= self.light_distance[1]:
            raise ValueError(f"Expected a rising light_distance range above 0, but got {self.light_distance}.")

    def draw(self, step: int, cameras: Cameras, generator: torch.Generator) -> "Shading":
        """Sample the shading of one step; every number comes from `generator` (on the CPU), as many at each step."""
        coins = torch.rand(3, generator=generator).tolist()
        lights = self.draw_lights(cameras, generator)
        kind: Kind = "albedo"
        if step >= self.albedo_until and coins[0] < self.shaded_share:
            kind = "textureless" if coins[1] < self.textureless_share else "lambertian"
        ambient, diffuse = (1.0 - coins[2], coins[2]) if self.soft else (self.ambient, self.diffuse)
        return Shading(kind=kind, lights=lights, ambient=ambient, diffuse=diffuse)

    def draw_lights(self, cameras: Cameras, generator: torch.Generator) -> Float[Tensor, "B 3"]:
        """Sample positions of the point lights of B views."""
        count = len(cameras)
        low, high = self.light_distance
        distances = low + (high - low) * torch.rand(count, 1, generator=generator)
        if self.light == "dreamfusion":
            around = cameras.eyes + torch.randn(count, 3, generator=generator)
            return distances * F.normalize(around, dim=-1)
        angle, turn = torch.rand(2, count, generator=generator) * torch.tensor([[math.pi / 3.0], [2.0 * math.pi]])
        # The camera's axes: right, down, forward. The light is seen from the origin at `angle` from the eye.
        local = torch.stack([angle.sin() * turn.cos(), angle.sin() * turn.sin(), -angle.cos()], dim=-1)
        return distances * (cameras.c2w[:, :3, :3] @ local[:, :, None])[:, :, 0]


@dataclass(frozen=True, kw_only=True)
class Shading:
    """The light of B views: `lights` are world positions of point lights; `ambient` and `diffuse` are strengths."""

    kind: Kind
    lights: Float[Tensor, "B 3"]
    ambient: float | Float[Tensor, ""] = 0.1
    diffuse: float | Float[Tensor, ""] = 0.9

    @property
    def needs_normals(self) -> bool:
        """Whether the light depends on the surface's direction."""
        return self.kind != "albedo"

    def __call__(
        self,
        albedo: Float[Tensor, "N 3"],
        points: Float[Tensor, "N 3"],
        normals: Float[Tensor, "N 3"] | None,
        views: Int[Tensor, " N"],
    ) -> Float[Tensor, "N 3"]:
        """Shade surface points with unit `normals`, each lit by its view's light; textureless: white albedo.

        Lambert's law: albedo (ambient + diffuse max(0, n . l)), with l the unit vector to the light.
        """
        if self.kind == "albedo":
            return albedo
        if normals is None:
            raise ValueError(f"Expected normals for {self.kind} shading, but got None. Query the field with normals.")
        to_light = F.normalize(to_device(self.lights, points)[views] - points, dim=-1)
        light = self.ambient + self.diffuse * (normals * to_light).sum(dim=-1, keepdim=True).clamp(min=0.0)
        return light.expand_as(albedo) if self.kind == "textureless" else albedo * light


def surface_points(
    depth: Float[Tensor, "B H W 1"], alpha: Float[Tensor, "B H W 1"], cameras: Cameras
) -> Float[Tensor, "B H W 3"]:
    """Return the world positions that the pixels show, from a `Render`'s depth and alpha; the eye where alpha is 0."""
    eyes, directions = (rays.to(depth) for rays in cameras.rays(depth.device))
    forward = to_device(cameras.c2w[:, None, None, :3, 2], depth)
    distances = depth / _one_where_empty(alpha)
    return eyes + distances * directions / (directions * forward).sum(dim=-1, keepdim=True)


def depth_normals(
    depth: Float[Tensor, "B H W 1"], alpha: Float[Tensor, "B H W 1"], cameras: Cameras, *, min_alpha: float = 0.0
) -> Float[Tensor, "B H W 3"]:
    """Return unit normals in world axes, towards the camera, of what the pixels show.

    Cross products of central differences of `surface_points`; a pixel stands in for a neighbour that shows nothing.
    Zero where alpha is 0 or a row or column has no neighbour. Differentiable where alpha is above `min_alpha`.
    """
    points, shown = surface_points(depth, alpha, cameras), alpha > 0
    right, down = _differences(points, shown, dim=2), _differences(points, shown, dim=1)
    toward = torch.cross(down, right, dim=-1)
    # The gradient of a zero vector's direction has no bound, so those have none.
    found = shown & (toward != 0).any(dim=-1, keepdim=True)
    normals = F.normalize(toward, dim=-1, eps=1e-20).masked_fill(~found, 0.0)
    return torch.where(alpha > min_alpha, normals, normals.detach())


def shade_render(
    render: Render, cameras: Cameras, background: Float[Tensor, "B 3"] | Float[Tensor, "B H W 3"], shading: Shading
) -> Render:
    """Shade `render`, made over black, and composite it on `background`: one colour or image a view.

    Differentiable in the colours (over black albedo times alpha), the alpha, the depth and the background.
    """
    points = surface_points(render.depth, render.alpha, cameras).flatten(0, 2)
    normals = depth_normals(render.depth, render.alpha, cameras).flatten(0, 2) if shading.needs_normals else None
    albedo = render.color / _one_where_empty(render.alpha)
    views = torch.arange(len(cameras), device=points.device).repeat_interleave(cameras.height * cameras.width)
    lit = shading(albedo.flatten(0, 2), points, normals, views).view_as(albedo)
    behind = (background if background.dim() == 4 else background[:, None, None]).to(lit)
    return dataclasses.replace(render, color=render.alpha * lit + (1.0 - render.alpha) * behind)


def _one_where_empty(alpha: Float[Tensor, "B H W 1"]) -> Float[Tensor, "B H W 1"]:
    """Replace alpha 0 by 1, to divide by it. `torch.where` with a number would make the host wait for the GPU."""
    return alpha.masked_fill(~(alpha > 0), 1.0)


def _differences(
    points: Float[Tensor, "B H W 3"], shown: Bool[Tensor, "B H W 1"], dim: int
) -> Float[Tensor, "B H W 3"]:
    """Subtract the last pixel's point from the next one's along a dimension; the pixel's own for one not shown."""

    def neighbour(shift: int) -> Float[Tensor, "B H W 3"]:
        there = shown.roll(shift, dim)
        there.select(dim, 0 if shift > 0 else -1).fill_(False)
        return torch.where(there, points.roll(shift, dim), points)

    return neighbour(-1) - neighbour(1)
