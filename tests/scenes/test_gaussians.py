"""What Gaussians start from."""

import dataclasses

import torch
import trimesh

from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.point_start import GrowthConfig, PointStartConfig
from hash3d.scenes.build import build_model
from hash3d.scenes.gaussians import sample_field
from tests.scenes.starts import SURFACE, ball_field, seeded, with_noise


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
