"""Meshes with known measures, and a camera that sees them."""

import dataclasses
import math

import torch

from hash3d.cameras import Cameras
from hash3d.export.mesh import BakedMesh
from hash3d.meshing.asset import cut_open
from hash3d.rendering.bake import bake
from hash3d.representations.dmtet import grid_vertices, marching_tetrahedra
from hash3d.representations.mesh import Mesh, SurfacePoints
from hash3d.representations.textured_mesh import TexturedMeshConfig


def surface(function, resolution: int, dtype: torch.dtype = torch.float64) -> Mesh:
    """The zero level of a function on [-1, 1]^3."""
    vertices = (2 * grid_vertices(resolution) - 1).to(dtype)
    return marching_tetrahedra(vertices, function(vertices))


def sphere(points: torch.Tensor) -> torch.Tensor:
    """Signed distance to a sphere of radius 0.6 that is not on the grid's axes."""
    return (points - torch.tensor([0.03, -0.05, 0.02]).to(points)).norm(dim=-1) - 0.6


def torus(points: torch.Tensor) -> torch.Tensor:
    """Signed distance to a torus around the y axis of radii 0.55 and 0.25."""
    x, y, z = points.unbind(-1)
    return torch.stack([(x * x + z * z).sqrt() - 0.55, y], dim=-1).norm(dim=-1) - 0.25


def euler_characteristic(mesh: Mesh) -> int:
    return len(mesh.faces.unique()) - len(mesh.edges.vertices) + len(mesh)


def volume(mesh: Mesh) -> torch.Tensor:
    """Volume inside a closed mesh: signed tetrahedra to the origin (Gauss)."""
    return (mesh.vertices[mesh.faces[:, 0]] * mesh.face_normals).sum() / 6.0


def ball(rings: int, radius: float = 0.6, dtype: torch.dtype = torch.float64) -> Mesh:
    """A sphere around the origin with exact vertices, in `rings` bands of latitude and twice as many of longitude."""
    latitude = torch.linspace(0, math.pi, rings + 1, dtype=torch.float64)[1:-1]
    longitude = torch.arange(2 * rings, dtype=torch.float64) * math.pi / rings
    theta, phi = torch.meshgrid(latitude, longitude, indexing="ij")
    round_ = torch.stack([theta.sin() * phi.sin(), theta.cos(), theta.sin() * phi.cos()], dim=-1).reshape(-1, 3)
    poles = torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]], dtype=torch.float64)
    around, count = 2 * rings, len(round_)
    here = torch.arange(around)
    beside = (here + 1) % around
    faces = [torch.stack([torch.full_like(here, count), here, beside], dim=-1)]
    for ring in range(rings - 2):
        up, down = ring * around, (ring + 1) * around
        faces.append(torch.stack([up + here, down + here, down + beside], dim=-1))
        faces.append(torch.stack([up + here, down + beside, up + beside], dim=-1))
    last = (rings - 2) * around
    faces.append(torch.stack([torch.full_like(here, count + 1), last + beside, last + here], dim=-1))
    return Mesh(vertices=radius * torch.cat([round_, poles]).to(dtype), faces=torch.cat(faces))


def cube(half: float = 0.3, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Mesh:
    """An axis-aligned cube of 12 triangles."""
    corners = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0], dtype=torch.float64)] * 3)
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = torch.tensor([[quad[0], *pair] for quad in quads for pair in ([quad[1], quad[2]], [quad[2], quad[3]])])
    return Mesh(vertices=half * corners + torch.tensor(centre, dtype=torch.float64), faces=faces)


def joined(*meshes: Mesh) -> Mesh:
    """All of them as one mesh."""
    starts = torch.tensor([0, *(len(mesh.vertices) for mesh in meshes)]).cumsum(0)
    faces = torch.cat([mesh.faces + start for mesh, start in zip(meshes, starts[:-1], strict=True)])
    return Mesh(vertices=torch.cat([mesh.vertices for mesh in meshes]), faces=faces)


WHITE = torch.ones(1, 3)


def camera(size: int = 48, elevation: float = 20.0, azimuth: float = 30.0) -> Cameras:
    return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=2.5, fov_y=40.0, size=size)


def focal(size: int) -> float:
    return 0.5 * size / math.tan(math.radians(20.0))


class Positions:
    """A surface whose colours are its world positions."""

    def __init__(self, mesh: Mesh) -> None:
        self.shape = mesh

    def mesh(self) -> Mesh:
        return self.shape

    def colors_at(self, points: SurfacePoints) -> torch.Tensor:
        return points.positions


def with_colors(mesh: Mesh, color: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Mesh:
    return dataclasses.replace(mesh, colors=torch.tensor(color).to(mesh.vertices).expand_as(mesh.vertices))


def bake_texture(mesh: Mesh, color, size: int) -> BakedMesh:
    """`mesh` unwrapped, with `color` of the positions in the texels, in [0, 1]."""
    surface = TexturedMeshConfig(texture_size=size).build(mesh)
    bake(surface, lambda points: color(points.positions).clamp(0.0, 1.0))
    return cut_open(surface)
