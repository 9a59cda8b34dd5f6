"""Scenes of every kind as GLB files: opened again, they look as the scenes do."""

import dataclasses
import sys
import types
import warnings

import numpy as np
import pytest
import torch
import trimesh

from hash3d.cameras import Cameras
from hash3d.evaluation.metrics import psnr, silhouette_iou
from hash3d.export.mesh import write_glb
from hash3d.meshing import asset
from hash3d.meshing.asset import FIELD_SURFACE, GAUSSIANS_SURFACE, bake_asset, limit_faces
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.rendering.bake import bake, colors_from_views
from hash3d.rendering.base import Render
from hash3d.rendering.raster import render_surface
from hash3d.rendering.splat import render_gaussians
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.gaussians import Gaussians, GaussiansConfig, GaussianTensors
from hash3d.representations.mesh import Mesh
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig
from tests.fields import Scene, hash_grid_scene
from tests.shapes import ball

AROUND = Cameras.orbit(elevation=[10.0, 40.0, -30.0], azimuth=[20.0, 150.0, 260.0], radius=1.8, fov_y=40.0, size=64)
WHITE = torch.ones(3, 3)
QUICK = dataclasses.replace(FIELD_SURFACE, resolution=40)
SIZE = 256


def pattern(points: torch.Tensor) -> torch.Tensor:
    return 0.5 + 0.4 * torch.sin(6.0 * points + torch.tensor([0.0, 1.0, 2.0]).to(points))


def egg(points: torch.Tensor) -> torch.Tensor:
    """Signed distance, nearly, to an egg beside the origin."""
    return ((points - torch.tensor([0.05, 0.0, -0.03])) / torch.tensor([0.8, 1.2, 1.0])).norm(dim=-1) - 0.3


def egg_field(strength: float = 200.0) -> Scene:
    """A density that falls to half over a width of 0.005 at the egg's surface."""
    return Scene(lambda points: strength * torch.sigmoid(-egg(points) / 0.005), color=pattern)


def reopened(baked, path) -> TexturedMesh:
    """What another program reads from the file, sewn together along the seams."""
    found = trimesh.load_mesh(write_glb(path / "model.glb", baked), process=False)
    vertices, places = torch.tensor(found.vertices).float().unique(dim=0, return_inverse=True)
    corners = torch.tensor(found.faces).long()
    texture = torch.tensor(np.asarray(found.visual.material.baseColorTexture.convert("RGB"))) / 255.0
    config = TexturedMeshConfig(texture_size=len(texture))
    textured = TexturedMesh(
        config, Mesh(vertices=vertices, faces=places[corners]), torch.tensor(found.visual.uv).float(), corners
    )
    textured.set_texture(texture)
    return textured


def expect_alike(scene: Render, baked, path, *, decibels: float, overlap: float) -> None:
    with torch.no_grad():
        found = render_surface(reopened(baked, path), AROUND, WHITE)
    for view in range(3):
        assert psnr(found.color[view].clamp(0, 1), scene.color[view].clamp(0, 1)) > decibels
    assert silhouette_iou(found.alpha, scene.alpha) > overlap


def test_a_field_comes_back(tmp_path):
    field = egg_field()
    baked = bake_asset(field, QUICK, SIZE)
    assert baked.texture.shape == (SIZE, SIZE, 3)
    scene = VolumeRendererConfig(samples_per_ray=256).build()(field, AROUND, WHITE)
    expect_alike(scene, baked, tmp_path, decibels=30.0, overlap=0.97)


def test_a_trainable_field_comes_back_without_gradients(tmp_path):
    field = hash_grid_scene()
    baked = bake_asset(field, dataclasses.replace(QUICK, level=5.0), SIZE)
    assert not baked.vertices.requires_grad
    assert not baked.texture.requires_grad
    # The blob that fields start from: a density of 5 where 10 (1 - |x| / 0.3) is about 5.
    assert baked.vertices.norm(dim=-1).mean() == pytest.approx(0.15, rel=0.03)
    colors = field(baked.vertices).detach()
    found = torch.nn.functional.grid_sample(
        baked.texture.permute(2, 0, 1)[None],
        (baked.uv * 2 - 1)[None, None] * torch.tensor([1.0, -1.0]),
        align_corners=False,
    )
    errors = (found[0, :, 0].T - colors).abs()
    # At a seam the nearest covered texel stands in.
    assert errors.median() < 0.01
    assert errors.max() < 0.08


def spiral(count: int = 1500) -> GaussianTensors:
    """Gaussians of about the density 1 on a ball of radius 0.35."""
    turns = torch.arange(count) * 2.399963
    height = 1.0 - (2.0 * torch.arange(count) + 1.0) / count
    ring = (1.0 - height**2).sqrt()
    points = 0.35 * torch.stack([ring * turns.cos(), height, ring * turns.sin()], dim=-1)
    return GaussianTensors(
        means=points,
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        scales=torch.full((count, 3), 0.02),
        opacities=torch.full((count,), 0.9),
        colors=pattern(points),
    )


def test_gaussians_come_back(tmp_path):
    gaussians = spiral()
    surface = dataclasses.replace(GAUSSIANS_SURFACE, resolution=40)
    scene = render_gaussians(gaussians, AROUND, WHITE)
    # Splats fade at the outline, where the mesh has an edge.
    expect_alike(scene, bake_asset(gaussians, surface, SIZE), tmp_path, decibels=20.0, overlap=0.85)


def test_trainable_gaussians_are_the_same_as_their_tensors():
    scene = Gaussians(GaussiansConfig(opacity=0.9), spiral(300).means, pattern(spiral(300).means))
    surface = dataclasses.replace(GAUSSIANS_SURFACE, resolution=20)
    found, expected = (bake_asset(each, surface, 64) for each in (scene, scene.gaussians()))
    assert torch.equal(found.vertices, expected.vertices)
    assert torch.equal(found.texture, expected.texture)


class Pattern(torch.nn.Module):
    def forward(self, points: torch.Tensor) -> torch.Tensor:
        return pattern(points)


def test_a_mesh_of_changing_topology_comes_back_in_its_own_colours(tmp_path):
    scene = DmtetMeshConfig(resolution=16, radius=0.6).build(lambda points: (-egg(points)).exp(), Pattern(), level=1.0)
    with torch.no_grad():
        expected = render_surface(scene, AROUND, WHITE)
    expect_alike(expected, bake_asset(scene, texture_size=SIZE), tmp_path, decibels=35.0, overlap=0.999)


def test_a_textured_mesh_keeps_its_texture(tmp_path):
    textured = TexturedMeshConfig(texture_size=64).build(ball(10, radius=0.4, dtype=torch.float32))
    bake(textured, lambda points: pattern(points.positions))
    with torch.no_grad():
        expected = render_surface(textured, AROUND, WHITE)
    baked = bake_asset(textured)
    assert torch.equal(baked.texture, textured.texture.detach())
    expect_alike(expected, baked, tmp_path, decibels=45.0, overlap=0.999)


def test_another_painter_paints_and_latents_need_one(tmp_path):
    field = egg_field()
    latents = Scene(field.density, color=lambda points: points.new_zeros(len(points), 4))
    latents.channels = 4
    with pytest.raises(ValueError, match="RGB colours, but it has 4 channels"):
        bake_asset(latents, QUICK, SIZE)
    all_round = Cameras.orbit(
        elevation=[0.0] * 6 + [70.0, -70.0], azimuth=[*range(0, 360, 60), 0.0, 180.0], radius=1.8, fov_y=40.0, size=96
    )
    pictures = VolumeRendererConfig(samples_per_ray=128).build()(field, all_round, torch.ones(8, 3)).color
    baked = bake_asset(latents, QUICK, SIZE, paint=lambda mesh: colors_from_views(mesh, all_round, pictures))
    scene = VolumeRendererConfig(samples_per_ray=256).build()(field, AROUND, WHITE)
    expect_alike(scene, baked, tmp_path, decibels=25.0, overlap=0.97)


def test_a_faint_field_gives_an_asset_with_a_warning():
    faint = egg_field(strength=4.0)
    with pytest.warns(UserWarning, match="above 25 somewhere .* level 'auto'"):
        found = bake_asset(faint, QUICK, 64)
    expected = bake_asset(faint, dataclasses.replace(QUICK, level="auto"), 64)
    assert torch.equal(found.vertices, expected.vertices)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bake_asset(faint, dataclasses.replace(QUICK, level=2.0), 64)


@pytest.mark.parametrize(("density", "message"), [(0.0, "density above 0 in the box"), (torch.nan, "finite densities")])
@pytest.mark.parametrize("level", [25.0, "auto"])
def test_nothing_and_divergence_are_errors(density, message, level):
    nothing = Scene(lambda points: torch.full_like(points[:, 0], density))
    with pytest.raises(ValueError, match=message):
        bake_asset(nothing, IsosurfaceConfig(level=level, resolution=8), 64)


def test_parts_do_not_change_the_texture(monkeypatch):
    surface = dataclasses.replace(QUICK, resolution=16)
    whole = bake_asset(egg_field(), surface, 64)
    monkeypatch.setattr(asset, "POINTS_AT_ONCE", 100)
    torch.testing.assert_close(bake_asset(egg_field(), surface, 64).texture, whole.texture)


@pytest.fixture
def sphere():
    made = trimesh.creation.icosphere(subdivisions=3)
    return Mesh(vertices=torch.tensor(made.vertices).float(), faces=torch.tensor(made.faces).long())


def test_a_mesh_within_its_budget_stays_as_it_is(sphere):
    assert limit_faces(sphere, None) is sphere
    assert limit_faces(sphere, len(sphere)) is sphere


def test_a_ball_of_a_quarter_of_its_faces_is_a_closed_ball(sphere):
    pytest.importorskip("fast_simplification")
    fewer = limit_faces(sphere, len(sphere) // 4)
    assert 0.9 * len(sphere) / 4 < len(fewer) <= len(sphere) // 4
    assert (fewer.vertices.norm(dim=-1) - 1.0).abs().max() < 0.05
    edges = torch.cat([fewer.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    assert {(a, b) for a, b in edges.tolist()} == {(b, a) for a, b in edges.tolist()}, "closed, and turned one way"
    assert ((fewer.vertices[fewer.faces].mean(dim=1) * fewer.face_normals).sum(-1) > 0).all(), "outwards"


def test_faces_without_a_normal_go(sphere, monkeypatch):
    """A collapsed face, and a fin: two faces of three vertices that only they have, turned against each other."""
    module = types.ModuleType("fast_simplification")
    vertices = np.array([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 2, 2], [3, 2, 2]], np.float32)
    closed = [[1, 3, 2], [1, 2, 4], [2, 3, 4], [3, 1, 4]]
    module.simplify = lambda *_, **__: (vertices, np.array([*closed, [1, 5, 6], [6, 5, 1], [2, 2, 5]], np.int32))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    fewer = limit_faces(sphere, 10)
    assert torch.equal(fewer.vertices, torch.from_numpy(vertices[1:5]))
    assert torch.equal(fewer.faces, torch.tensor(closed) - 1)


def test_what_cannot_be_is_told(sphere, monkeypatch):
    with pytest.raises(ValueError, match="Expected at least 4 faces, but got 3"):
        limit_faces(sphere, 3)
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(ImportError, match=r'-m pip install "hash3d\[simplify\]"'):
        limit_faces(sphere, 100)
