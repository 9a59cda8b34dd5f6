"""What a stage starts from, and the model's file."""

import dataclasses

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.representations.dmtet import DmtetMesh, DmtetMeshConfig
from hash3d.representations.gaussians import Gaussians, GaussiansConfig
from hash3d.representations.nerf import Nerf
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig
from hash3d.scenes.build import build_model, load_model, save_model, show_model
from tests.scenes.starts import ball_field, seeded, with_noise

CAMERA = Cameras.orbit(elevation=20.0, azimuth=[0.0, 100.0], radius=1.5, fov_y=49.1, size=24)


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
