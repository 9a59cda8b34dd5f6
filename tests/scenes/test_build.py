"""What a stage starts from, and the model's file."""

import dataclasses

import pytest
import torch
import trimesh

from hash3d.cameras import Cameras
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.representations.dmtet import DmtetMesh, DmtetMeshConfig
from hash3d.representations.gaussians import Gaussians, GaussiansConfig
from hash3d.representations.mesh import SurfacePoints
from hash3d.representations.nerf import HashGridNerfConfig, Nerf
from hash3d.representations.point_start import GrowthConfig, PointStartConfig
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig
from hash3d.scenes.build import build_model, load_model, save_model, show_model
from hash3d.scenes.gaussians import sample_field
from tests.shapes import cube
from tests.tiny_recipes import GRID

CAMERA = Cameras.orbit(elevation=20.0, azimuth=[0.0, 100.0], radius=1.5, fov_y=49.1, size=24)
SURFACE = IsosurfaceConfig(level=5.0, resolution=40)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ball_field(**changes) -> Nerf:
    """A field whose density is its blob, nearly: softplus(10 (1 - |x| / 0.25)), which is 5 at half of 0.25."""
    config = HashGridNerfConfig(encoding=GRID, hidden_width=8, radius=0.6, blob_std=0.25, **changes)
    field = config.build(seeded())
    field.set_step(4)  # three of the four levels
    return field


def with_noise(model):
    """Every parameter moved a little, so that none has its start's value."""
    generator = seeded(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model


def finished(recipe):
    """A model such as the last stage of a recipe makes."""
    model = build_model(recipe, 0, None, seeded())
    if isinstance(model, Nerf):
        model.set_step(4)
    return with_noise(model if recipe.refinement is None else build_model(recipe, 1, model, seeded(1)))


KINDS = {
    "zero123_gs": ("model.ply", Gaussians),
    "zero123_nerf": ("model.pt", Nerf),
    "magic3d": ("model.pt", DmtetMesh),
    "dreamgaussian": ("model.pt", TexturedMesh),
    "gaussiandreamer": ("model.ply", Gaussians),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_model_shows_the_same_pictures(tiny, name, tmp_path):
    recipe = tiny(name)
    model, (file, kind) = finished(recipe), KINDS[name]
    assert isinstance(model, kind)
    assert save_model(tmp_path, model, recipe.stages[-1]) == file
    assert [path.name for path in tmp_path.iterdir()] == [file]
    loaded = load_model(recipe, tmp_path, torch.device("cpu"))
    first, second = (show_model(each, recipe.stages[-1])(CAMERA) for each in (model, loaded))
    assert torch.equal(first.color, second.color)
    assert torch.equal(first.alpha, second.alpha)
    assert 0.01 < float(first.alpha.mean()) < 0.99, "the test means nothing without an object"


def test_a_mesh_after_gaussians_is_saved_without_a_colour_field(tiny, tmp_path):
    """A first stage that is no field leaves colours at the vertices."""
    recipe = tiny("magic3d")
    recipe = dataclasses.replace(recipe, stage=tiny("sds_gs").stage)
    model = with_noise(recipe.refinement.representation.build())
    save_model(tmp_path, model, recipe.stages[-1])
    loaded = load_model(recipe, tmp_path, torch.device("cpu"))
    assert loaded.color_field is None
    assert torch.equal(loaded.color_logits, model.color_logits)


@pytest.mark.parametrize("name", ["zero123_gs", "magic3d"])
def test_a_model_that_is_missing_or_broken_is_told(tiny, name, tmp_path):
    recipe, file = tiny(name), KINDS[name][0]
    with pytest.raises(ValueError, match=f"^Expected a finished run in .*, but it has no {file}\\."):
        load_model(recipe, tmp_path, torch.device("cpu"))
    (tmp_path / file).write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=f"^Expected .*{file}.*\\.$"):
        load_model(recipe, tmp_path, torch.device("cpu"))


def test_a_file_of_the_first_stage_is_not_taken_for_the_second_s(tiny, tmp_path):
    """A run of two stages that was stopped in the first one."""
    recipe = tiny("magic3d")
    save_model(tmp_path, build_model(recipe, 0, None, seeded()), recipe.stage)
    with pytest.raises(ValueError, match="cannot be read"):
        load_model(recipe, tmp_path, torch.device("cpu"))


def test_a_first_stage_starts_from_its_generator(tiny):
    for name in ("zero123_gs", "zero123_nerf"):
        first, same, other = (build_model(tiny(name), 0, None, seeded(seed)) for seed in (0, 0, 1))
        pairs = list(zip(first.parameters(), same.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(one, two) for one, two, _ in pairs)
        assert not all(torch.equal(one, three) for one, _, three in pairs)


def test_gaussians_start_at_the_points_of_a_file(tiny, tmp_path):
    trimesh.creation.box(extents=(1.0, 1.0, 1.0)).export(tmp_path / "box.ply")
    start = PointStartConfig(file=tmp_path / "box.ply", radius=0.5, num_points=300)
    model = build_model(dataclasses.replace(tiny("sds_gs"), start=start), 0, None, seeded())
    half = 0.5 / 3**0.5
    assert len(model) == 300
    assert torch.allclose(model.means.abs().amax(dim=-1), torch.full((300,), half), atol=0.02)


def test_points_on_a_field_s_surface_have_its_level_and_its_colours():
    field = with_noise(ball_field())
    start = sample_field(field, SURFACE, 400, seeded())
    with torch.no_grad():
        found = field.density(start.points)
        assert torch.equal(start.colors, field(start.points))
    # The density falls by about 40 a scene unit, and a sample of the grid is 0.01 wide.
    assert (found - 5.0).abs().max() < 0.5
    assert not start.points.requires_grad


def test_gaussians_after_a_field_lie_on_its_surface_and_grow_around_it(tiny):
    recipe, field = tiny("gaussiandreamer"), ball_field()
    config = GaussiansConfig(num_points=100)
    stage = dataclasses.replace(recipe.refinement, representation=config, growth=None)
    first = dataclasses.replace(recipe.stage, surface=SURFACE)
    recipe = dataclasses.replace(recipe, stage=first, refinement=stage)
    bare = build_model(recipe, 1, field, seeded())
    # softplus(10 (1 - r / 0.25)) = 5 at r = 0.25 (1 - ln(e^5 - 1) / 10).
    radius = 0.25 * (1.0 - float(torch.tensor(5.0).exp().sub(1.0).log()) / 10.0)
    assert len(bare) == 100
    assert (bare.means.norm(dim=-1) - radius).abs().max() < 0.01
    growth = GrowthConfig(num_candidates=4000, distance=0.02)
    grown = build_model(
        dataclasses.replace(recipe, refinement=dataclasses.replace(stage, growth=growth)), 1, field, seeded()
    )
    assert len(grown) > 150
    distances = torch.cdist(grown.means.detach(), bare.means.detach()).amin(dim=-1)
    assert distances.max() < 0.02
    assert torch.equal(grown.means[-100:], bare.means)  # the start's own points come last


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
    """As `DmtetMeshConfig.build_from_density` takes it without a threshold."""
    field, recipe = ball_field(), tiny("magic3d")
    assert recipe.stage.surface.level == "auto"
    model = build_model(recipe, 1, field, seeded())
    same = recipe.refinement.representation.build_from_density(lambda points: field.density(points), field, None)
    assert torch.equal(model.values, same.values)


def test_stages_without_a_way_between_them_are_told(tiny):
    recipe = tiny("magic3d")
    with pytest.raises(ValueError, match=r"^Expected a way from Gaussians to DmtetMeshConfig, but there is none\.$"):
        build_model(recipe, 1, GaussiansConfig(num_points=5).build(seeded()), seeded())
    with pytest.raises(ValueError, match=r"^Expected a way from Nerf to TexturedMeshConfig, but there is none\.$"):
        build_model(tiny("dreamgaussian"), 1, ball_field(), seeded())
    for config in (DmtetMeshConfig(), TexturedMeshConfig()):
        stage = dataclasses.replace(recipe.refinement, representation=config)
        with pytest.raises(ValueError, match=f"first stage of Gaussians or a field, but got a {type(config).__name__}"):
            build_model(dataclasses.replace(recipe, stage=stage, refinement=None), 0, None, seeded())


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
