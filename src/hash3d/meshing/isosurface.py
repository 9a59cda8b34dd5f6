"""The surface where a density takes one value, as a mesh, and the density and colours of Gaussians.

The two passes, the level "auto" and the removal of small components follow threestudio 28d9d80, models/isosurface.py,
models/geometry/base.py and models/exporters/mesh_exporter.py; marching cubes (Lorensen and Cline 1987, in the variant
of Lewiner et al. 2003) stands in for its marching tetrahedra.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hash3d.ranges import expect_range
from hash3d.rendering._torch_splat import rotation_matrices
from hash3d.representations.dmtet import EMPTY_DENSITY, Level, choose_level
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh, grown_box

Density = Callable[[Float[Tensor, "N 3"]], Float[Tensor, " N"]]
"""Density at positions in scene units, at least 0; larger is inside."""

BLOCK = 8
"""The grid is sampled cube after cube of this many samples a side, so that a density can skip what is far from each."""
POINTS_AT_ONCE = 32_768
"""Most positions in one call of a density."""


@dataclass(frozen=True, kw_only=True)
class IsosurfaceConfig:
    """Which surface, and how finely.

    Args:
        level: Density at the surface, above 0. threestudio has 25 for a NeRF; Gaussians take 0.8 (threestudio) or 1.0
            (DreamGaussian 69a3c70). "auto", "opaque": see `hash3d.representations.dmtet.choose_level`, which gets
            the first pass's grid.
        resolution: Samples along the box's longest side, in both passes.
        min_component: Connected components with a smaller share of the largest one's faces are removed.
    """

    level: Level = 25.0
    resolution: int = 128
    min_component: float = 0.01

    def __post_init__(self) -> None:
        if not (self.level in ("auto", "opaque") if isinstance(self.level, str) else self.level > 0.0):
            raise ValueError(f"Expected a level above 0 or 'auto', but got {self.level}. Densities are at least 0.")
        expect_range(self, "resolution", at_least=2)


def extract_mesh(density: Density, box: Float[Tensor, "2 3"], config: IsosurfaceConfig) -> Mesh:
    """Extract the closed surface of `density` inside `box`, given by its lower and upper corner.

    `density` gets positions on the device and in the dtype of `box`. A second pass samples the bounding box of the
    first pass's mesh. A surface that leaves the box is closed at most one sample beyond it. Raises `ValueError` if the
    density is not finite, or nowhere above the level.
    """
    box = box.detach()
    if not bool((box[0] < box[1]).all()):
        raise ValueError(f"Expected a box's lower and upper corner, but got {box.tolist()}.")
    origin, spacing, values = _sample(density, box, config.resolution)
    if isinstance(config.level, str) and not values.max() > EMPTY_DENSITY:
        raise ValueError(f"Expected a density above 0 in the box, but the largest is {values.max():.3g}. Train longer.")
    level = choose_level(config.level, torch.from_numpy(values), spacing)
    coarse = remove_small_components(_run_marching_cubes(origin, spacing, values, level), config.min_component)
    refined = _run_marching_cubes(*_sample(density, grown_box(coarse, box), config.resolution), level)
    return remove_small_components(refined, config.min_component)


def extract_mesh_or_auto(density: Density, box: Float[Tensor, "2 3"], config: IsosurfaceConfig) -> Mesh:
    """Extract the surface; at the level "auto", with a warning, if the density never reaches the configured one."""
    try:
        return extract_mesh(density, box, config)
    except ValueError as error:
        if isinstance(config.level, str):
            raise
        mesh = extract_mesh(density, box, replace(config, level="auto"))
        warnings.warn(f"{error} The surface is that of the level 'auto', the mean density.", stacklevel=2)
        return mesh


def _sample(
    density: Density, box: Float[Tensor, "2 3"], resolution: int
) -> tuple[Float[np.ndarray, " 3"], float, Float[np.ndarray, "X Y Z"]]:
    """Sample a grid of cubes around the middle of `box`. Returns its first point, its spacing and its values."""
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


def _run_marching_cubes(
    origin: Float[np.ndarray, " 3"], spacing: float, values: Float[np.ndarray, "X Y Z"], level: float
) -> Mesh:
    """Run marching cubes on the zero-padded grid; the padding closes the surface."""
    from skimage.measure import marching_cubes

    if not values.max() > level:
        got = f"the largest is {values.max():.4g}. Lower the level, or train longer."
        raise ValueError(f"Expected a density above {level:.4g} somewhere in the box, but {got}")
    # What scikit-image 0.26 calls ascent turns the faces towards the lower values.
    vertices, faces, _, _ = marching_cubes(
        np.pad(values, 1), level, gradient_direction="ascent", allow_degenerate=False
    )
    positions = origin + spacing * (vertices.astype(np.float64) - 1.0)
    return Mesh(vertices=torch.from_numpy(positions).float(), faces=torch.from_numpy(faces.astype(np.int64)))


def remove_small_components(mesh: Mesh, share: float) -> Mesh:
    """Keep the connected components that have at least `share` of the largest one's faces."""
    labels = label_components(mesh)
    sizes = np.bincount(labels)
    return _keep_faces(mesh, sizes[labels] >= share * sizes.max())


def remove_cavities(mesh: Mesh) -> Mesh:
    """Remove from a closed mesh the connected components that enclose a cavity: those of negative volume.

    Gaussians trained from outside are a shell, whose inner side nobody sees.
    """
    labels = label_components(mesh)
    signed = (mesh.vertices[mesh.faces[:, 0]].double() * mesh.face_normals.double()).sum(dim=-1).numpy()
    return _keep_faces(mesh, np.bincount(labels, weights=signed)[labels] > 0.0)


def label_components(mesh: Mesh) -> Int[np.ndarray, " F"]:
    """Label each face with the number of its connected component."""
    from trimesh.graph import connected_component_labels

    edges = mesh.faces[:, [0, 1, 1, 2]].reshape(-1, 2).numpy()
    labels = connected_component_labels(edges, len(mesh.vertices))
    return labels[mesh.faces[:, 0].numpy()].astype(np.int64)


def _keep_faces(mesh: Mesh, kept: Bool[np.ndarray, " F"]) -> Mesh:
    """Keep some of the faces and the vertices they use."""
    used, renumbered = np.unique(mesh.faces.numpy()[kept], return_inverse=True)
    indices = torch.from_numpy(used)
    return Mesh(vertices=mesh.vertices[indices], faces=torch.from_numpy(renumbered.reshape(-1, 3).astype(np.int64)))


MIN_OPACITY = 0.005
"""Gaussians of this opacity or less are left out."""
NEGLIGIBLE = 1e-3
"""A Gaussian may be left out where it adds less than this to the density."""
FARTHEST = 60.0
"""Squared Mahalanobis distances are clamped here, as exp is ten times slower where it underflows."""
NOTHING = 1e-9
"""Where the density is this or less, all Gaussians are too far to give a colour."""
POINTS_TOGETHER = BLOCK**3
"""Points that share one list of near Gaussians."""
CHUNKS_TOGETHER, MOST_WEIGHTS = {"cuda": 64}, 2**26
"""On a GPU, so many such lists are made at once, and so many pairs of a point and a Gaussian are computed at once."""


class GaussianField:
    """Density and colour of N Gaussians, without gradients. Fastest if POINTS_TOGETHER points in a row lie together.

    DreamGaussian 69a3c70, gs_renderer.py `extract_fields`: the density at x is the sum of the Gaussians' opacities,
    each times exp(-d^2 / 2) at its Mahalanobis distance d; Gaussians with an opacity of 0.005 or less are left out.
    There a block of the grid sees the Gaussians centred in 1.5 times its size; here it sees all that reach it.
    """

    def __init__(self, gaussians: GaussianTensors) -> None:
        """Raises `ValueError` if no Gaussian is opaque enough to count."""
        kept = gaussians.opacities.detach() > MIN_OPACITY
        if not bool(kept.any()):
            raise ValueError(f"Expected some Gaussian with an opacity above {MIN_OPACITY}, but none has. Train longer.")
        self.means = gaussians.means.detach()[kept]
        self.colors = gaussians.colors.detach()[kept]
        self._opacities = gaussians.opacities.detach()[kept]
        rotations = rotation_matrices(gaussians.quats.detach()[kept])
        scales = gaussians.scales.detach()[kept]
        self._whitening = rotations.transpose(1, 2) / scales[:, :, None]
        deviations = (rotations * scales[:, None, :]).square().sum(dim=-1).sqrt()
        reach = (2.0 * (self._opacities / NEGLIGIBLE).log()).sqrt()
        lower, upper = self.means - reach[:, None] * deviations, self.means + reach[:, None] * deviations
        self._bounds = torch.cat([lower, -upper], dim=-1).T.contiguous()

    @property
    def box(self) -> Float[Tensor, "2 3"]:
        """Corners, in scene units, of the box beyond which no Gaussian adds more than NEGLIGIBLE."""
        lower, upper = self._bounds.amin(dim=-1).split(3)
        return torch.stack([lower, -upper])

    def density(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, " N"]:
        """Sum the opacities at points in scene units, up to NEGLIGIBLE for each Gaussian that is left out."""
        rows = [weights.sum(dim=-1).flatten() for _, weights in self._weights(points)]
        return torch.cat([self.means.new_zeros(0), *rows])[: len(points)]

    def color(self, points: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """Average the Gaussians' RGB, weighted by what they add to the density; beyond their reach take the nearest."""
        points, rows = points.to(self.means), [self.means.new_zeros(0, 3)]
        for near, weights in self._weights(points):
            total = weights.sum(dim=-1, keepdim=True)
            rows.append(torch.where(total > NOTHING, weights @ self.colors[near] / total, torch.nan).flatten(0, 1))
        colors = torch.cat(rows)[: len(points)]
        lost = colors[:, 0].isnan().nonzero()[:, 0]
        for chunk in lost.split(POINTS_TOGETHER):
            colors[chunk] = self.colors[torch.cdist(points[chunk], self.means).argmin(dim=-1)]
        return colors

    def _weights(self, points: Float[Tensor, "N 3"]) -> Iterator[tuple[Int[Tensor, "C M"], Float[Tensor, "C P M"]]]:
        """Yield for chunks of P points the Gaussians that reach their boxes, and what each adds at each point.

        On a GPU many chunks come at once, as each takes many launches. A chunk that fewer Gaussians reach has others
        that add nothing. The last point is repeated to fill the last chunk.
        """
        size = min(POINTS_TOGETHER, max(len(points), 1))
        filled = torch.cat([points, points[-1:].expand(-len(points) % size, 3)]).to(self.means).view(-1, size, 3)
        for chunks in filled.split(CHUNKS_TOGETHER.get(filled.device.type, 1)) if len(points) else ():
            low, high = chunks.amin(dim=1), chunks.amax(dim=1)
            reached = (self._bounds < torch.cat([high, -low], dim=1)[:, :, None]).all(dim=1)
            chunk, gaussian = reached.nonzero(as_tuple=True)
            ends = reached.sum(dim=1).cumsum(0)
            place = torch.arange(len(chunk), device=chunk.device) - torch.cat([ends.new_zeros(1), ends])[chunk]
            near = chunk.new_zeros(len(chunks), int(place.max()) + 1 if len(place) else 0)
            near[chunk, place] = gaussian
            opacities = self.means.new_zeros(near.shape)
            opacities[chunk, place] = self._opacities[gaussian]
            parts = max(1, MOST_WEIGHTS // max(1, size * near.shape[1]))
            for each in zip(
                *(whole.split(parts) for whole in (chunks, 0.5 * (low + high), near, opacities)), strict=True
            ):
                yield each[2], self._weigh(*each)

    def _weigh(
        self,
        chunks: Float[Tensor, "C P 3"],
        centers: Float[Tensor, "C 3"],
        near: Int[Tensor, "C M"],
        opacities: Float[Tensor, "C M"],
    ) -> Float[Tensor, "C P M"]:
        """Compute what Gaussians add at the points of their chunks."""
        whitening = self._whitening[near]
        offsets = torch.einsum("cmij,cmj->cim", whitening, self.means[near] - centers[:, None])
        squared = self.means.new_zeros(*chunks.shape[:2], near.shape[1])
        for axis in range(3):
            along = whitening[:, :, axis].mT
            distances = torch.baddbmm(-offsets[:, axis, None], chunks - centers[:, None], along)
            squared.addcmul_(distances, distances)
        return squared.clamp_(max=FARTHEST).mul_(-0.5).exp_().mul_(opacities[:, None])
