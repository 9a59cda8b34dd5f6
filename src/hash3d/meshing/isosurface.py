"""The surface where a density takes one value, as a mesh.

The two passes, the automatic level and the small components follow threestudio 28d9d80, models/isosurface.py,
models/geometry/base.py and models/exporters/mesh_exporter.py; marching cubes (Lorensen and Cline 1987, in the variant
of Lewiner et al. 2003) stands in for its marching tetrahedra.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.representations.dmtet import EMPTY_DENSITY
from hash3d.representations.mesh import Mesh, grown_box

Density = Callable[[Float[Tensor, "N 3"]], Float[Tensor, " N"]]
"""Density at positions in scene units, at least 0; larger is inside."""

BLOCK = 8
"""A density is asked about the grid in cubes of this many samples a side, one cube after the other, so that a field of
many small parts can leave out what is far from each cube."""
POINTS_AT_ONCE = 32_768
"""Most positions in one call of a density."""


@dataclass(frozen=True, kw_only=True)
class IsosurfaceConfig:
    """Which surface, and how finely."""

    level: float | Literal["auto"] = 25.0
    """Density at the surface, above 0. threestudio has 25 for a NeRF; Gaussians take 0.8 (threestudio) or 1.0
    (DreamGaussian 69a3c70). auto: the mean of the densities above 1e-5 on the first pass's grid."""
    resolution: int = 128
    """Samples along the box's longest side in each of the two passes."""
    min_component: float = 0.01
    """Connected pieces with a smaller share of the largest piece's faces are left out."""

    def __post_init__(self) -> None:
        if self.level != "auto" and not self.level > 0.0:
            raise ValueError(f"Expected a level above 0 or 'auto', but got {self.level}. Densities are at least 0.")
        if self.resolution < 2:
            raise ValueError(f"Expected a resolution of at least 2 samples a side, but got {self.resolution}.")


def extract_mesh(density: Density, box: Float[Tensor, "2 3"], config: IsosurfaceConfig) -> Mesh:
    """The closed surface of `density` inside `box`, its lower and upper corner.

    `density` gets positions on the device and in the dtype of `box`. A second pass samples the box of what the first
    has found. A surface that leaves the box is closed at most one sample beyond it.

    Raises:
        ValueError: the density is not finite, or nowhere above the level.
    """
    box = box.detach()
    if not bool((box[0] < box[1]).all()):
        raise ValueError(f"Expected a box's lower and upper corner, but got {box.tolist()}.")
    origin, spacing, values = _sample(density, box, config.resolution)
    level = config.level if config.level != "auto" else _automatic_level(values)
    found = without_small_components(_surface(origin, spacing, values, level), config.min_component)
    refined = _surface(*_sample(density, grown_box(found, box), config.resolution), level)
    return without_small_components(refined, config.min_component)


def extract_mesh_or_auto(density: Density, box: Float[Tensor, "2 3"], config: IsosurfaceConfig) -> Mesh:
    """The same; a density that never reaches the level has its surface at the level "auto", with a warning."""
    try:
        return extract_mesh(density, box, config)
    except ValueError as error:
        if config.level == "auto":
            raise
        found = extract_mesh(density, box, replace(config, level="auto"))
        warnings.warn(f"{error} The surface is that of the level 'auto', the mean density.", stacklevel=2)
        return found


def _automatic_level(values: Float[np.ndarray, "X Y Z"]) -> float:
    """threestudio's "auto": the mean of what is not nothing."""
    something = values[values > EMPTY_DENSITY]
    if not something.size:
        raise ValueError(f"Expected a density above 0 in the box, but the largest is {values.max():.3g}. Train longer.")
    return float(something.mean())


def _sample(
    density: Density, box: Float[Tensor, "2 3"], resolution: int
) -> tuple[Float[np.ndarray, " 3"], float, Float[np.ndarray, "X Y Z"]]:
    """First sample, distance between samples, and values on the grid of cubes around the middle of `box`."""
    sides = box[1] - box[0]
    spacing = sides.max() / (resolution - 1)
    counts = [max(int(np.ceil(float(side / spacing) - 1e-3)) + 1, 2) for side in sides]
    spans = spacing * (torch.tensor(counts).to(box) - 1)
    origin = 0.5 * (box[0] + box[1] - spans)
    values = np.empty(counts, dtype=np.float32)
    with torch.no_grad():
        for first in range(0, counts[0], BLOCK):
            indices = np.indices((min(BLOCK, counts[0] - first), *counts[1:])).reshape(3, -1)
            indices = indices[:, np.lexsort(indices[:0:-1] // BLOCK)] + np.array([[first], [0], [0]])
            points = origin + spacing * torch.from_numpy(indices.T.copy()).to(box)
            answers = [density(chunk).float().cpu() for chunk in points.split(POINTS_AT_ONCE)]
            values[tuple(indices)] = torch.cat(answers).numpy()
    if not np.isfinite(values).all():
        raise ValueError("Expected finite densities, but some are infinite or not a number. The training diverged.")
    return origin.double().cpu().numpy(), float(spacing), values


def _surface(origin: Float[np.ndarray, " 3"], spacing: float, values: Float[np.ndarray, "X Y Z"], level: float) -> Mesh:
    """Marching cubes on the grid with one layer of zeros around it, which closes the surface."""
    from skimage.measure import marching_cubes

    if not values.max() > level:
        raise ValueError(
            f"Expected a density above {level:.4g} somewhere in the box, but the largest is {values.max():.4g}. "
            f"Lower the level, or train longer."
        )
    # What scikit-image 0.26 calls ascent turns the faces towards the lower values.
    vertices, faces, _, _ = marching_cubes(
        np.pad(values, 1), level, gradient_direction="ascent", allow_degenerate=False
    )
    positions = origin + spacing * (vertices.astype(np.float64) - 1.0)
    return Mesh(vertices=torch.from_numpy(positions).float(), faces=torch.from_numpy(faces.astype(np.int64)))


def without_small_components(mesh: Mesh, share: float) -> Mesh:
    """The connected pieces that have at least `share` of the largest piece's faces, and the vertices they use."""
    pieces = pieces_of(mesh)
    sizes = np.bincount(pieces)
    return _with_faces(mesh, sizes[pieces] >= share * sizes.max())


def without_cavities(mesh: Mesh) -> Mesh:
    """A closed mesh without the connected pieces that enclose a hollow: those of negative volume.

    Gaussians trained from outside are a shell, whose inner side nobody sees.
    """
    pieces = pieces_of(mesh)
    signed = (mesh.vertices[mesh.faces[:, 0]].double() * mesh.face_normals.double()).sum(dim=-1).numpy()
    return _with_faces(mesh, np.bincount(pieces, weights=signed)[pieces] > 0.0)


def pieces_of(mesh: Mesh) -> Int[np.ndarray, " F"]:
    """The number of the connected piece that each face belongs to."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    faces, count = mesh.faces.numpy(), len(mesh.vertices)
    starts, ends = faces[:, [0, 1]].ravel(), faces[:, [1, 2]].ravel()
    graph = coo_matrix((np.ones(len(starts), dtype=np.bool_), (starts, ends)), shape=(count, count))
    _, labels = connected_components(graph, directed=False)
    return labels[faces[:, 0]].astype(np.int64)


def _with_faces(mesh: Mesh, kept: Bool[np.ndarray, " F"]) -> Mesh:
    """Some of the faces, and the vertices they use."""
    used, renumbered = np.unique(mesh.faces.numpy()[kept], return_inverse=True)
    indices = torch.from_numpy(used)
    return Mesh(
        vertices=mesh.vertices[indices],
        faces=torch.from_numpy(renumbered.reshape(-1, 3).astype(np.int64)),
        colors=None if mesh.colors is None else mesh.colors[indices],
    )
