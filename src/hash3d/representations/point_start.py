"""Where Gaussians can start other than in a ball: the points of a file, and GaussianDreamer's growth of them.

`Gaussians(config, start.points, start.colors)` makes Gaussians of a start. Points are in the world of `hash3d.cameras`
(right-handed, +y up, front +z, as in glTF), colours are sRGB.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from .gaussians import SH_DEGREE_0

Up = Literal["y", "z"]
"""The axis that points up in a file: "y" as in glTF (front +z), "z" as in Blender and Shap-E (front -y)."""

GREY = 0.5
"""RGB of points without a colour."""


@dataclass(frozen=True, kw_only=True)
class PointStart:
    """N coloured points."""

    points: Float[Tensor, "N 3"]
    """In scene units."""
    colors: Float[Tensor, "N 3"]
    """RGB in [0, 1]."""

    def __len__(self) -> int:
        return len(self.points)

    def fitted(self, radius: float) -> "PointStart":
        """The middle of the points' bounding box moved to the origin, and the farthest point to `radius`."""
        centered = self.points - 0.5 * (self.points.amin(dim=0) + self.points.amax(dim=0))
        size = centered.norm(dim=-1).max()
        if not bool(size > 0.0):
            raise ValueError(f"Expected points that differ, but all {len(self)} are the same. Pass another file.")
        return PointStart(points=centered * (radius / size), colors=self.colors)

    def scaled(self, factor: float) -> "PointStart":
        """Every position times `factor`."""
        return PointStart(points=self.points * factor, colors=self.colors)

    def chosen(self, count: int, generator: torch.Generator) -> "PointStart":
        """`count` of the points, drawn without replacement; all of them if there are no more."""
        rows = torch.randperm(len(self), generator=generator)[:count] if count < len(self) else slice(None)
        return PointStart(points=self.points[rows], colors=self.colors[rows])


@dataclass(frozen=True, kw_only=True)
class GrowthConfig:
    """Noisy point growing and colour perturbation (Yi et al. 2023, "GaussianDreamer").

    The numbers are those of its code, 06f24c0, systems/GaussianDreamer.py `add_points`.
    """

    num_candidates: int = 1_000_000
    """Points drawn uniformly in the bounding box of the start's points."""
    distance: float = 0.01
    """A candidate stays if it is closer than this to one of the start's points, in units of the start."""
    color_noise: float = 0.2
    """It takes that point's colour plus a uniform number between 0 and this in each channel."""


def grow_points(start: PointStart, config: GrowthConfig, generator: torch.Generator) -> PointStart:
    """The points that grow around `start`, then those of `start`; every number comes from `generator` (on the CPU).

    Colours are cut at 1, where GaussianDreamer lets them pass.
    """
    from scipy.spatial import cKDTree

    low, high = start.points.amin(dim=0), start.points.amax(dim=0)
    candidates = low + (high - low) * torch.rand(config.num_candidates, 3, generator=generator)
    distances, nearest = cKDTree(start.points.numpy()).query(candidates.numpy(), distance_upper_bound=config.distance)
    near = torch.from_numpy(distances < config.distance)
    colors = start.colors[torch.from_numpy(nearest)[near]]
    noise = config.color_noise * torch.rand(colors.shape, generator=generator)
    return PointStart(
        points=torch.cat([candidates[near], start.points]),
        colors=torch.cat([(colors + noise).clamp(max=1.0), start.colors]),
    )


@dataclass(frozen=True, kw_only=True)
class PointStartConfig:
    """A start from a file: a PLY of points, or a mesh in any format that trimesh reads."""

    file: Path
    """A PLY without faces is read as points, anything else is sampled as a mesh."""
    radius: float = 0.5
    """Distance of the farthest point from the origin in scene units. The bounding box is centred."""
    num_points: int = 4096
    """Points drawn on a mesh; of a PLY of points at most this many are kept."""
    up: Up = "y"
    """The file's upward axis."""
    growth: GrowthConfig | None = None
    """Whether points grow around those of the file; its distance is a share of `radius`."""

    def __post_init__(self) -> None:
        if self.radius <= 0.0 or self.num_points < 1:
            raise ValueError(f"Expected radius and num_points above 0, but got {self.radius} and {self.num_points}.")

    def build(self, generator: torch.Generator) -> PointStart:
        """The start of this configuration; every number comes from `generator` (on the CPU)."""
        if self.file.suffix.lower() == ".ply" and not _has_faces(_read(self.file)):
            start = read_point_cloud(self.file, self.up).chosen(self.num_points, generator)
        else:
            start = sample_mesh(self.file, self.num_points, generator, self.up)
        start = start.fitted(1.0)
        if self.growth is not None:
            start = grow_points(start, self.growth, generator)
        return start.scaled(self.radius)


def read_point_cloud(file: Path, up: Up = "y") -> PointStart:
    """The vertices of a PLY file and their colours: red, green, blue, those of Gaussians (f_dc), or else grey.

    Raises:
        ValueError: the file does not read, or holds no finite points.
    """
    geometry = _read(file)
    clouds = list(geometry.geometry.values())
    points = np.concatenate([cloud.vertices for cloud in clouds]) if clouds else np.zeros((0, 3))
    if not len(points) or not np.isfinite(points).all():
        raise ValueError(f"Expected {file} to hold points, but it has none, or some that are not finite. Export again.")
    colors = np.concatenate([_point_colors(cloud) for cloud in clouds])
    return PointStart(points=to_world(points, up), colors=torch.from_numpy(colors).float())


def sample_mesh(file: Path, num_points: int, generator: torch.Generator, up: Up = "y") -> PointStart:
    """Points uniform on the surface of a mesh file, with the colours of its texture, vertices or faces, or else grey.

    Raises:
        ValueError: the file does not read, or its mesh has no faces.
    """
    from trimesh.sample import sample_surface

    scene = _read(file)
    if not _has_faces(scene):
        raise ValueError(f"Expected {file} to hold a mesh, but it has no faces. Pass points as a PLY file.")
    for geometry in scene.geometry.values():
        _keep_colors(geometry)
    mesh = scene.to_mesh()
    if not mesh.area > 0.0:
        raise ValueError(f"Expected {file} to hold a mesh with a surface, but its area is 0. Export it again.")
    seed = int(torch.randint(2**31, (1,), generator=generator))
    points, faces, weights = sample_surface(mesh, num_points, return_barycentric=True, seed=seed)
    linear = file.suffix.lower() in (".glb", ".gltf")
    colors = _surface_colors(mesh.visual, mesh.faces[faces], weights, faces, linear)
    return PointStart(points=to_world(points, up), colors=torch.from_numpy(colors).float())


def linear_to_srgb(linear: Any) -> Any:
    """sRGB of linear RGB, both in [0, 1] (IEC 61966-2-1)."""
    from trimesh.visual import color

    return color.linear_to_srgb(np.asarray(linear, dtype=np.float64).clip(0.0, 1.0))


def to_world(points: Any, up: Up) -> Float[Tensor, "N 3"]:
    """Positions of a file in our world: z up and front -y become y up and front +z by a quarter turn about x."""
    x, y, z = torch.from_numpy(np.asarray(points, dtype=np.float32)).unbind(-1)
    return torch.stack([x, z, -y] if up == "z" else [x, y, z], dim=-1)


def _read(file: Path) -> Any:
    """The file as a trimesh scene."""
    import trimesh

    if not file.is_file():
        raise ValueError(f"Expected a file of points or a mesh, but there is no file {file}. Check the path.")
    try:
        return trimesh.load_scene(file, process=False)
    except Exception as error:
        raise ValueError(
            f"Expected {file} to be a PLY of points or a mesh, but it does not read ({error}). Export it again."
        ) from error


def _has_faces(scene: Any) -> bool:
    return any(len(getattr(geometry, "faces", ())) for geometry in scene.geometry.values())


def _point_colors(cloud: Any) -> Any:
    """RGB "N 3" of a trimesh point cloud."""
    raw = cloud.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    names = ("f_dc_0", "f_dc_1", "f_dc_2")
    if isinstance(raw, np.ndarray) and set(names) <= set(raw.dtype.names or ()):
        coefficients = np.stack([raw[name] for name in names], axis=-1).astype(np.float64)
        return (0.5 + SH_DEGREE_0 * coefficients).clip(0.0, 1.0)
    if len(cloud.visual.vertex_colors) == len(cloud.vertices) and cloud.visual.kind == "vertex":
        return cloud.visual.vertex_colors[:, :3] / 255.0
    return np.full((len(cloud.vertices), 3), GREY)


def _keep_colors(geometry: Any) -> None:
    """Vertex colours beside a material without texture are lost when trimesh joins meshes, unless they stand alone."""
    from trimesh.visual import ColorVisuals

    colors = getattr(geometry.visual, "vertex_attributes", {}).get("color")
    if colors is not None and geometry.visual.uv is None:
        geometry.visual = ColorVisuals(geometry, vertex_colors=colors)


def _surface_colors(visual: Any, corners: Any, weights: Any, faces: Any, linear: bool) -> Any:
    """RGB "N 3" at points of faces; `corners` and `weights` are the vertices around each and their shares.

    `linear`: colours of vertices and of a material without texture are linear, as glTF has them.
    """
    if visual.kind == "texture" and visual.uv is not None and _texture(visual.material) is not None:
        from trimesh.visual.color import uv_to_interpolated_color

        uv = np.einsum("nk,nkc->nc", weights, visual.uv[corners])
        return uv_to_interpolated_color(uv, _texture(visual.material))[:, :3] / 255.0
    if visual.kind == "vertex":
        colors = np.einsum("nk,nkc->nc", weights, visual.vertex_colors[corners][..., :3] / 255.0)
    elif visual.kind == "face":
        colors = visual.face_colors[faces][:, :3] / 255.0
    elif visual.kind == "texture":
        colors = np.broadcast_to(visual.material.main_color[:3] / 255.0, (len(faces), 3))
    else:
        return np.full((len(faces), 3), GREY)
    return linear_to_srgb(colors) if linear else colors


def _texture(material: Any) -> Any:
    """The picture of a trimesh material, or None."""
    return getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
