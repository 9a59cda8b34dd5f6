"""A texture that gives back the field it was painted with."""

import pytest
import torch
import trimesh

from hash3d.export.mesh import BakedMesh
from hash3d.representations.mesh import Mesh
from tests.shapes import bake_texture


@pytest.fixture(scope="module")
def sphere() -> Mesh:
    ball = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    return Mesh(vertices=torch.tensor(ball.vertices, dtype=torch.float32), faces=torch.tensor(ball.faces))


def colour(points: torch.Tensor) -> torch.Tensor:
    return points + 0.5


def read_texture(mesh: BakedMesh, uv: torch.Tensor) -> torch.Tensor:
    """Bilinear reading as in graphics: texel centres at half numbers, v up."""
    grid = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], dim=-1)[None, None]
    picture = mesh.texture.permute(2, 0, 1)[None]
    return torch.nn.functional.grid_sample(picture, grid, align_corners=False, padding_mode="border")[0, :, 0].T


def surface_points(mesh: BakedMesh, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and texture coordinates of random points of random faces."""
    generator = torch.Generator().manual_seed(0)
    faces = mesh.faces[torch.randint(len(mesh.faces), (count,), generator=generator)]
    weights = torch.rand(count, 3, generator=generator)
    weights = (weights / weights.sum(dim=-1, keepdim=True))[..., None]
    return (mesh.vertices[faces] * weights).sum(dim=1), (mesh.uv[faces] * weights).sum(dim=1)


def test_the_texture_gives_back_the_field_at_any_point_of_the_surface(sphere):
    mesh = bake_texture(sphere, colour, size=256)
    places, uv = surface_points(mesh, 3000)
    error = (read_texture(mesh, uv) - colour(places)).abs()
    # A texel is about 0.01 wide here; at a seam the nearest covered texel stands in.
    assert error.mean() < 1e-3
    assert error.max() < 0.03
    assert torch.equal(mesh.vertices[mesh.faces], sphere.vertices[sphere.faces])
    # On a ball the normal is the direction, on both sides of a seam.
    torch.testing.assert_close(mesh.normals, mesh.vertices / 0.5, atol=0.02, rtol=0)


def test_colours_are_cut_to_what_a_picture_holds_and_a_tiny_texture_is_refused(sphere):
    mesh = bake_texture(sphere, lambda points: 9.0 * points, size=32)
    # Within what the texture's logits hold (TexturedMesh.set_texture).
    assert mesh.texture.min() == pytest.approx(0.0, abs=2e-6)
    assert mesh.texture.max() == pytest.approx(1.0, abs=2e-6)
    with pytest.raises(ValueError, match="16 divides, but got 4"):
        bake_texture(sphere, colour, size=4)
