"""Triangle meshes, points on them, and their smoothness."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """V vertices in scene units and F triangles, counter-clockwise seen from outside, with RGB a vertex if it has any.

    Faces that touch share vertices: an edge with a face on one side only is a rim. `closed` promises that each edge has
    two faces; `known_edges` are `edges`, where they are known already. `counts` are the numbers of vertices and faces
    on the device, where there may be more rows: vertices that no face needs, and pairs of faces (n, n, n).
    """

    vertices: Float[Tensor, "V 3"]
    faces: Int[Tensor, "F 3"]
    colors: Float[Tensor, "V 3"] | None = None
    closed: bool = False
    known_edges: "Edges | None" = None
    counts: Int[Tensor, "2"] | None = None

    def __len__(self) -> int:
        return self.faces.shape[0]

    def mesh(self) -> "Mesh":
        """Return itself: a mesh is a surface."""
        return self

    def colors_at(self, points: "SurfacePoints") -> Float[Tensor, "N 3"]:
        """Interpolate the vertex colours."""
        if self.colors is None:
            raise ValueError("Expected a mesh with vertex colours, but it has none. Give Mesh(..., colors=...).")
        return points.interpolate(self.colors)

    @property
    def face_normals(self) -> Float[Tensor, "F 3"]:
        """Normals of the faces, twice as long as the face is large."""
        a, b, c = take(self.vertices, self.faces).unbind(1)
        return torch.cross(b - a, c - a, dim=-1)

    @property
    def face_areas(self) -> Float[Tensor, " F"]:
        """Areas in scene units squared."""
        return 0.5 * self.face_normals.norm(dim=-1)

    @cached_property
    def vertex_normals(self) -> Float[Tensor, "V 3"]:
        """Unit normals at the vertices: the mean of the faces' normals, weighted by area; 0 for a vertex of no face."""
        corners, normals = self.faces.T.reshape(-1, 1).expand(-1, 3), self.face_normals.repeat(3, 1)
        summed = torch.zeros_like(self.vertices).scatter_add_(0, corners, normals)
        return functional.normalize(summed, dim=-1, eps=1e-20)

    @cached_property
    def edges(self) -> "Edges":
        """The edges, each once, in the order of their vertices; a GPU is waited for unless the mesh is closed."""
        if self.known_edges is not None:
            return self.known_edges
        sides = torch.stack([self.faces.roll(-1, 1), self.faces.roll(1, 1)], dim=-1).transpose(0, 1).reshape(-1, 2)
        count = max(self.vertices.shape[0], 1)
        keys = pair_keys(sides, count)
        if self.closed:
            ordered, places = keys.sort()
            keys, numbers = ordered[::2], torch.arange(len(places), device=places.device) // 2
            side_edges = torch.empty_like(places).scatter_(0, places, numbers)
        else:
            keys, side_edges = torch.unique(keys, return_inverse=True)
        vertices = torch.stack([keys // count, keys % count], dim=-1)
        return Edges(vertices=vertices, of_face=side_edges.reshape(3, -1).T)


@dataclass(frozen=True, kw_only=True)
class Edges:
    """E edges of a mesh, the lower vertex first, and the three edges of each face, opposite to its vertices."""

    vertices: Int[Tensor, "E 2"]
    of_face: Int[Tensor, "F 3"]


@dataclass(frozen=True, kw_only=True)
class SurfacePoints:
    """N points on a mesh, barycentric `weights` in `faces`, each seen by a pixel of camera `views`.

    `face_pixels` is the area in pixels that the point's face covers there.
    """

    mesh: Mesh
    faces: Int[Tensor, " N"]
    weights: Float[Tensor, "N 3"]
    views: Int[Tensor, " N"]
    face_pixels: Float[Tensor, " N"]

    def interpolate(self, values: Float[Tensor, "V C"]) -> Float[Tensor, "N C"]:
        """Interpolate values at vertices linearly on each face."""
        return (take(values, self.corners) * self.weights[..., None]).sum(dim=1)

    @cached_property
    def corners(self) -> Int[Tensor, "N 3"]:
        """The vertices of the points' faces."""
        return self.mesh.faces[self.faces]

    @cached_property
    def positions(self) -> Float[Tensor, "N 3"]:
        """World positions in scene units."""
        return self.interpolate(self.mesh.vertices)

    @property
    def normals(self) -> Float[Tensor, "N 3"]:
        """Unit normals, smooth over the faces."""
        return functional.normalize(self.interpolate(self.mesh.vertex_normals), dim=-1, eps=1e-20)


@runtime_checkable
class Surface(Protocol):
    """A scene made of triangles."""

    def mesh(self) -> Mesh:
        """The geometry, differentiable in the parameters of this scene."""
        ...

    def colors_at(self, points: SurfacePoints) -> Float[Tensor, "N 3"]:
        """RGB at points of the mesh that `mesh()` has just returned."""
        ...


def take(values: Float[Tensor, "V *C"], rows: Int[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return `values[rows]`; its gradient is summed several times as fast as that of an index."""
    found = values.flatten(1) if values.dim() > 1 else values[:, None]
    index = rows.flatten()[:, None].expand(-1, found.shape[1])
    return found.gather(0, index).view(*rows.shape, *values.shape[1:])


def pair_keys(pairs: Int[Tensor, "N 2"], count: int) -> Int[Tensor, " N"]:
    """Return a number for each pair of `count` vertices, whose order does not count."""
    first, second = pairs.unbind(-1)  # `amin` along the pairs would be a hundred times slower on a CPU.
    return torch.minimum(first, second) * count + torch.maximum(first, second)


def fill_rows(
    edges: Int[Tensor, " E"], faces: Int[Tensor, "F 3"], counts: Int[Tensor, "2"]
) -> tuple[Int[Tensor, " E"], Int[Tensor, "F 3"]]:
    """Repeat the first vertices' edges after the last, and let pairs of faces after the last lie on one vertex each.

    The sides of a pair are three pairs of sides, so that `Mesh.edges` still finds each edge twice. All are spread over
    the vertices: sums of many numbers in one place take long.
    """
    number, row = counts[0].clamp(min=1), torch.arange(len(faces), device=faces.device)
    edges = edges[torch.arange(len(edges), device=edges.device) % number]
    vertex = (row // 2 % number).clamp(max=len(edges) - 1)
    filled = torch.where((row < counts[1])[:, None], faces.clamp(max=len(edges) - 1), vertex[:, None])
    return edges, filled


def grown_box(mesh: Mesh, whole: Float[Tensor, "2 3"]) -> Float[Tensor, "2 3"]:
    """Return a mesh's bounding box, grown by a tenth on each side within `whole` (threestudio, geometry/base.py)."""
    vertices = mesh.vertices.detach()
    low, high = vertices.amin(dim=0).to(whole), vertices.amax(dim=0).to(whole)
    margin = 0.1 * (high - low)
    return torch.stack([torch.maximum(low - margin, whole[0]), torch.minimum(high + margin, whole[1])])


def sample_surface(mesh: Mesh, count: int, generator: torch.Generator) -> Float[Tensor, "N 3"]:
    """Sample `count` points uniformly on a mesh on the CPU (Osada et al. 2002, "Shape Distributions", eq. 1)."""
    faces = torch.multinomial(mesh.face_areas, count, replacement=True, generator=generator)
    first, second = torch.rand(2, count, 1, generator=generator)
    a, b, c = mesh.vertices[mesh.faces[faces]].unbind(1)
    root = first.sqrt()
    return (1.0 - root) * a + root * (1.0 - second) * b + root * second * c
