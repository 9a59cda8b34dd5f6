"""What the mini recipes share."""

from hash3d.recipes.loss_weights import LossWeights
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig
from hash3d.schedules import constant
from hash3d.systems.mini import MINI_GRID, mini_by_text, mini_cameras, mini_field, mini_field_stage, mini_splat_stage

OWN = {"guidances": {"text": mini_by_text(10)}, "losses": LossWeights(guidances={"text": constant(1.0)})}


def test_a_field_is_one_of_colours_or_of_latents_with_the_same_settings():
    colors, latents = mini_field(100, lr=0.02), mini_field(100, lr=0.02, kind=LatentNerfConfig)
    assert (type(colors), type(latents)) == (HashGridNerfConfig, LatentNerfConfig)
    assert (colors.channels, latents.channels) == (3, 4)
    for name in ("encoding", "radius", "blob", "blob_scale", "encoding_lr", "lr_decay", "lr_steps", "warmup_steps"):
        assert getattr(colors, name) == getattr(latents, name), name
    assert colors.encoding == MINI_GRID


def test_schedules_stretch_with_the_steps():
    assert [mini_by_text(steps).max_timestep(steps) for steps in (10, 400)] == [0.5, 0.5]
    assert mini_field_stage(40, **OWN).size(20) == 96
    assert mini_splat_stage(40, num_points=10, cameras=mini_cameras(), **OWN).representation.lr_steps == 40


def test_settings_of_one_s_own_replace_the_shared_ones():
    assert mini_by_text(10, guidance_scale=7.5).guidance_scale == 7.5
    assert mini_field_stage(40, **OWN, size=constant(32)).size(0) == 32
    assert mini_cameras(highest=75.0).elevation == (-10.0, 75.0)
