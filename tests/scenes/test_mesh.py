"""What meshes start from, and their files."""

import dataclasses

import torch

from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.mesh import SurfacePoints
from hash3d.scenes.build import build_model, load_model, save_model
from tests.scenes.starts import SURFACE, ball_field, seeded, with_noise
from tests.shapes import cube


def test_a_mesh_after_a_field_is_its_surface_in_its_colours(tiny):
    field = ball_field()
    recipe = tiny("magic3d")
    config = DmtetMeshConfig(resolution=32, radius=0.6)
    first = dataclasses.replace(recipe.stage, surface=SURFACE)
    stage = dataclasses.replace(recipe.refinement, representation=config)
    model = build_model(dataclasses.replace(recipe, stage=first, refinement=stage), 1, field, seeded())
    radius = 0.25 * (1.0 - float(torch.tensor(5.0).exp().sub(1.0).log()) / 10.0)
    mesh = model.mesh()
    assert (mesh.vertices.norm(dim=-1) - radius).abs().max() < 0.01
    count = min(len(mesh), 50)
    corners = SurfacePoints(
        mesh=mesh, faces=torch.arange(count), weights=torch.full((count, 3), 1 / 3),
        views=torch.zeros(count, dtype=torch.long), face_pixels=torch.ones(count),
    )  # fmt: skip
    assert torch.equal(model.colors_at(corners), field(corners.positions))


def test_a_level_auto_is_the_mean_density(tiny):
    """As `DmtetMeshConfig.build` takes it without a threshold."""
    field, recipe = ball_field(), tiny("magic3d")
    assert recipe.stage.surface.level == "auto"
    model = build_model(recipe, 1, field, seeded())
    same = recipe.refinement.representation.build(lambda points: field.density(points), field)
    assert torch.equal(model.values, same.values)


def test_a_textured_mesh_of_another_size_loads(tmp_path, tiny):
    """A file brings its own numbers of vertices and faces."""
    mesh = cube()
    mesh = dataclasses.replace(mesh, vertices=mesh.vertices.float())
    recipe = tiny("dreamgaussian")
    model = with_noise(recipe.refinement.representation.build(mesh))
    save_model(tmp_path, model, recipe.stages[-1])
    loaded = load_model(recipe, tmp_path, torch.device("cpu"))
    assert len(loaded.mesh()) == 12
    assert torch.equal(loaded.texture, model.texture)
