"""Start Gaussians from the points of a file, with GaussianDreamer's growth of points.

Points are in the world of `hash3d.cameras` (+y up, front +z), colours sRGB. Positions stay in float64 until they are
centred: a file in map coordinates keeps its shape.
"""

import re
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.ranges import expect_range

from .gaussians import SH_DEGREE_0

Up = Literal["y", "z"]
"""The axis that points up in a file: "y" as in glTF (front +z), "z" as in Blender and Shap-E (front -y)."""

GREY = 0.5
"""RGB of points without a colour."""
COARSEST_STEP = 1e-3
"""Warn where the file's numbers are farther apart than this share of the shape's size."""


@dataclass(frozen=True, kw_only=True)
class PointStart:
    """N coloured points."""

    points: Float[Tensor, "N 3"]
    """Positions, float64 in a file's units or float32 in scene units."""
    colors: Float[Tensor, "N 3"]
    """RGB in [0, 1]."""

    def __len__(self) -> int:
        return len(self.points)

    def fit(self, radius: float) -> "PointStart":
        """Centre the bounding box and scale the farthest point to `radius`, in float32; `ValueError` for one place."""
        points = self.points.double()
        centred = points - (0.5 * points.amin(dim=0) + 0.5 * points.amax(dim=0))
        extent = centred.abs().max()
        if not bool(extent > 0.0):
            raise ValueError(
                f"Expected points that differ, but all {len(self)} lie at {points[0].tolist()}. Pass another file."
            )
        unit = centred / extent  # The norm's squares neither overflow nor vanish, whatever the file's units.
        return PointStart(points=(unit * (radius / unit.norm(dim=-1).max())).float(), colors=self.colors)

    def scale(self, factor: float) -> "PointStart":
        """Multiply the positions by `factor`."""
        return PointStart(points=self.points * factor, colors=self.colors)

    def subsample(self, count: int, generator: torch.Generator) -> "PointStart":
        """Draw `count` of the points without replacement; all of them if there are no more."""
        rows = torch.randperm(len(self), generator=generator)[:count] if count < len(self) else slice(None)
        return PointStart(points=self.points[rows], colors=self.colors[rows])


@dataclass(frozen=True, kw_only=True)
class GrowthConfig:
    """Noisy point growing (Yi et al. 2023, "GaussianDreamer"; numbers of its code, 06f24c0, `add_points`).

    Args:
        num_candidates: Points drawn uniformly in the bounding box of the start's points.
        distance: A candidate stays if it is closer than this to one of the start's points, in units of the start.
        color_noise: It takes that point's colour plus a uniform number between 0 and this in each channel.
    """

    num_candidates: int = 1_000_000
    distance: float = 0.01
    color_noise: float = 0.2


def grow_points(start: PointStart, config: GrowthConfig, generator: torch.Generator) -> PointStart:
    """Add points around those of `start`, which come last, by numbers of `generator` (CPU); colours end at 1."""
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
    """Start from a file: a PLY of points, or a mesh in any format that trimesh reads.

    Args:
        file: A PLY without faces is read as points, anything else is sampled as a mesh.
        radius: Distance of the farthest point from the origin in scene units. The bounding box is centred.
        num_points: Points drawn on a mesh; of a PLY of points at most this many are kept.
        up: The file's upward axis.
        growth: Whether points grow around those of the file; its distance is a share of `radius`.
    """

    file: Path
    radius: float = 0.5
    num_points: int = 4096
    up: Up = "y"
    growth: GrowthConfig | None = None

    def __post_init__(self) -> None:
        expect_range(self, "radius num_points", above=0)

    def build(self, generator: torch.Generator) -> PointStart:
        """Read the file and fit its points; every number comes from `generator` (on the CPU)."""
        if self.file.suffix.lower() == ".ply" and not _has_faces(_read(self.file)):
            start = read_point_cloud(self.file, self.up).subsample(self.num_points, generator)
        else:
            start = sample_mesh(self.file, self.num_points, generator, self.up)
        start = start.fit(1.0)
        if self.growth is not None:
            start = grow_points(start, self.growth, generator)
        return start.scale(self.radius)


def read_point_cloud(file: Path, up: Up = "y") -> PointStart:
    """Read the vertices of a PLY file, in float64, and their colours: RGB, those of Gaussians (f_dc), or else grey.

    `ValueError`: the file does not read, or holds no points, or some that are not finite.
    """
    geometry = _read(file)
    clouds = list(geometry.geometry.values())
    points = np.concatenate([cloud.vertices for cloud in clouds]) if clouds else np.zeros((0, 3))
    _expect_finite(points, file)
    colors = np.concatenate([_point_colors(cloud) for cloud in clouds])
    return PointStart(points=to_world(points, up), colors=torch.from_numpy(colors).float())


def sample_mesh(file: Path, num_points: int, generator: torch.Generator, up: Up = "y") -> PointStart:
    """Draw points uniformly on a mesh file, in float64, coloured by texture, vertices or faces, or else grey.

    `ValueError`: the file does not read, or its mesh has no faces, no area, or vertices that are not finite.
    """
    from trimesh.sample import sample_surface

    scene = _read(file)
    if file.suffix.lower() == ".obj" and re.search(rb"^\s*f\b.*\s-\d", file.read_bytes(), re.MULTILINE):
        raise ValueError(
            f"Expected faces of {file} to count vertices from the first, but some count back. Export it again."
        )
    if not _has_faces(scene):
        raise ValueError(f"Expected {file} to hold a mesh, but it has no faces. Pass points as a PLY file.")
    for geometry in scene.geometry.values():
        _keep_colors(geometry)
    mesh = scene.to_mesh()
    _expect_finite(mesh.vertices, file)
    # Areas are squares of lengths: the mesh is centred and scaled to a size of 1 for sampling, and back.
    centre = 0.5 * mesh.bounds[0] + 0.5 * mesh.bounds[1]
    extent = float(np.abs(mesh.vertices - centre).max()) or 1.0
    mesh.vertices = (mesh.vertices - centre) / extent
    if not mesh.area > 0.0:
        raise ValueError(f"Expected {file} to hold a mesh with a surface, but its area is 0. Export it again.")
    seed = int(torch.randint(2**31, (1,), generator=generator))
    points, faces, weights = sample_surface(mesh, num_points, return_barycentric=True, seed=seed)
    linear = file.suffix.lower() in (".glb", ".gltf")
    colors = _surface_colors(mesh.visual, mesh.faces[faces], weights, faces, linear)
    return PointStart(points=to_world(centre + extent * points, up), colors=torch.from_numpy(colors).float())


def _expect_finite(points: Any, file: Path) -> None:
    """Refuse a file without points or with NaN or infinite ones; warn if its numbers are too coarse for its shape."""
    bad = int((~np.isfinite(points).all(axis=-1)).sum())
    if not len(points) or bad:
        what = f"{bad} of its {len(points)} are not finite" if len(points) else "it has none"
        raise ValueError(f"Expected {file} to hold points, but {what}. Export it again.")
    with np.errstate(over="ignore"):
        exact = bool((points == points.astype(np.float32)).all())
    step = np.abs(points).max() * np.finfo(np.float32 if exact else np.float64).eps
    size = np.ptp(points, axis=0).max()
    if step > COARSEST_STEP * size > 0.0:
        warnings.warn(
            f"The positions in {file} are rounded to about {step:.2g}, for a shape of size {size:.2g}: it lies too far "
            f"from the origin. Move it to the origin before exporting it, or export it in double precision.",
            stacklevel=3,
        )


def linear_to_srgb(linear: Any) -> Any:
    """Encode linear RGB as sRGB, both in [0, 1] (IEC 61966-2-1)."""
    from trimesh.visual import color

    return color.linear_to_srgb(np.asarray(linear, dtype=np.float64).clip(0.0, 1.0))


def to_world(points: Any, up: Up) -> Float[Tensor, "N 3"]:
    """Turn a file's positions into our world, in their dtype: z up and front -y become y up and front +z."""
    x, y, z = torch.as_tensor(np.asarray(points)).unbind(-1)
    return torch.stack([x, z, -y] if up == "z" else [x, y, z], dim=-1)


def _read(file: Path) -> Any:
    """Read the file as a trimesh scene."""
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
    """Return the RGB "N 3" of a trimesh point cloud."""
    raw = cloud.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    fields = raw.dtype.names or () if isinstance(raw, np.ndarray) else raw or ()
    for names in (
        ("f_dc_0", "f_dc_1", "f_dc_2"),
        ("red", "green", "blue"),
        ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ):
        if set(names) <= set(fields):
            given = np.stack([np.ravel(raw[name]) for name in names], axis=-1)
            largest = np.iinfo(given.dtype).max if given.dtype.kind in "iu" else 1.0
            colors = given.astype(np.float64) / largest
            return (0.5 + SH_DEGREE_0 * colors if names[0] == "f_dc_0" else colors).clip(0.0, 1.0)
    return np.full((len(cloud.vertices), 3), GREY)


def _keep_colors(geometry: Any) -> None:
    """Keep what trimesh loses: vertex colours beside a material without texture, and a texture's factor (linear)."""
    from PIL import Image
    from trimesh.visual import ColorVisuals
    from trimesh.visual.color import srgb_to_linear

    material: Any = getattr(geometry.visual, "material", None)
    texture, factor = (getattr(material, name, None) for name in ("baseColorTexture", "baseColorFactor"))
    if texture is not None and factor is not None:
        linear = srgb_to_linear(np.asarray(texture.convert("RGB")) / 255.0) * factor[:3] / 255.0
        material.baseColorTexture = Image.fromarray((255.0 * linear_to_srgb(linear)).round().astype(np.uint8))
        material.baseColorFactor = None
    colors = getattr(geometry.visual, "vertex_attributes", {}).get("color")
    if colors is not None and geometry.visual.uv is None:
        geometry.visual = ColorVisuals(geometry, vertex_colors=colors)


def _surface_colors(visual: Any, corners: Any, weights: Any, faces: Any, linear: bool) -> Any:
    """Return the RGB "N 3" at points of faces; `linear`: colours but a texture's are linear, as glTF has them."""
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
    """Return the image of a trimesh material, or None."""
    return getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
