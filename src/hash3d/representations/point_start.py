"""Start Gaussians from the points of a file, with GaussianDreamer's growth of points.

Points are in the world of `hash3d.cameras` (+y up, front +z), colours sRGB. Positions stay in float64 until they are
centred: a file in map coordinates keeps its shape.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.ranges import expect_range

from .gaussians import HALF_TURN
from .mesh_file import (
    GREY,
    Up,
    expect_finite,
    has_faces,
    naming,
    ply_colors,
    ply_fields,
    read_mesh,
    read_scene,
    tell_grey,
    to_world,
)


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
        with naming(self.file):
            if self.file.suffix.lower() == ".ply" and not has_faces(read_scene(self.file)):
                start = read_point_cloud(self.file, self.up).subsample(self.num_points, generator)
            else:
                start = sample_mesh(self.file, self.num_points, generator, self.up)
        start = start.fit(1.0)
        if self.growth is not None:
            start = grow_points(start, self.growth, generator)
        return start.scale(self.radius)


def read_point_cloud(file: Path, up: Up = "y") -> PointStart:
    """Read the vertices of a PLY file, in float64, and their colours: RGB, those of Gaussians (f_dc), or else grey.

    Gaussians are turned upright: in their files +y is down (`hash3d.export.points`).

    `ValueError`: the file does not read, or holds no points, or some that are not finite.
    """
    geometry = read_scene(file)
    clouds = list(geometry.geometry.values())
    turns = [HALF_TURN if "f_dc_0" in ply_fields(cloud)[1] else 1.0 for cloud in clouds]
    points = np.concatenate([np.zeros((0, 3)), *(a.vertices * turn for a, turn in zip(clouds, turns, strict=True))])
    expect_finite(points, file)
    colors = np.full((len(points), 3), GREY)
    with naming(file):
        given = [ply_colors(cloud) for cloud in clouds]
    if any(each is None for each in given):
        tell_grey(file)
    else:
        colors = np.concatenate(given)
    return PointStart(points=to_world(points, up), colors=torch.from_numpy(colors).float())


def sample_mesh(file: Path, num_points: int, generator: torch.Generator, up: Up = "y") -> PointStart:
    """Draw points uniformly on a mesh file, in float64, coloured by texture, vertices or faces, or else grey.

    `ValueError`: the file does not read, or its mesh has no faces, no area, or vertices that are not finite.
    """
    from trimesh import Trimesh
    from trimesh.sample import sample_surface

    mesh = read_mesh(file, up)
    low, high = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
    # Areas are squares of lengths: the mesh is centred and scaled to a size of 1 for sampling, and back.
    centre = 0.5 * low + 0.5 * high
    extent = float((mesh.vertices - centre).abs().max()) or 1.0
    unit = Trimesh(((mesh.vertices - centre) / extent).numpy(), mesh.faces.numpy(), process=False)
    if not unit.area > 0.0:
        raise ValueError(f"Expected {file} to hold a mesh with a surface, but its area is 0. Export it again.")
    seed = int(torch.randint(2**31, (1,), generator=generator))
    sampled = sample_surface(unit, num_points, return_barycentric=True, seed=seed)
    points, faces, weights = (torch.from_numpy(each) for each in sampled)
    return PointStart(points=centre + extent * points, colors=mesh.colors(faces, weights))
