"""A prior that ignores the pose has a ratio of 1, and one that needs it has more."""

import math

import pytest
import torch

from hash3d.diffusion.noise import NoiseSchedule
from prior_training.architecture import TOY, build_mini_zero123
from prior_training.pose_test import TIMESTEP, pose_test, velocity_losses
from tests.prior_training.test_novel_views import some_views

TRUTH = torch.rand(3, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture
def prior():
    torch.manual_seed(0)
    return build_mini_zero123(TOY).eval()


def test_a_prior_that_ignores_the_pose(prior):
    with torch.no_grad():
        prior.camera_projection.proj.weight[:, -4:] = 0
        prior.unet.class_embedding.linear_1.weight.zero_()
    figures = pose_test(prior, some_views(3), TRUTH, batch_size=2)
    assert figures["ratio"] == 1.0
    assert figures["loss"] == figures["loss_15_degrees_off"] > 0


def test_a_prior_that_reads_the_pose(prior):
    assert pose_test(prior, some_views(3), TRUTH, batch_size=2)["ratio"] != 1.0


@pytest.mark.parametrize("prediction_type", ["v_prediction", "epsilon"])
def test_the_loss_is_that_of_the_velocity(prior, prediction_type):
    """A U-Net that says 0: for a velocity the loss is v^2, for noise it is eps^2 / abar_t; no matter the pose."""
    prior.schedule = NoiseSchedule(prediction_type=prediction_type)
    with torch.no_grad():
        prior.unet.conv_out.weight.zero_()
        prior.unet.conv_out.bias.zero_()
    losses = velocity_losses(prior, some_views(3), TRUTH, seed=7)
    with torch.no_grad():
        latents = prior.encode(TRUTH)
    noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(7))
    signal = math.sqrt(prior.schedule.alphas_cumprod[TIMESTEP])
    velocity = signal * noise - math.sqrt(1 - signal**2) * latents
    target = velocity if prediction_type == "v_prediction" else noise / signal
    torch.testing.assert_close(losses, target.square().mean((1, 2, 3)), rtol=1e-4, atol=0)


def test_the_right_pose_is_the_one_asked_for(prior, monkeypatch):
    """The U-Net sees the pose of the views first, then the one 15 degrees further round."""
    seen = []
    make_inputs = prior.make_inputs

    def watched(noisy, timesteps, condition, pose):
        seen.append((torch.rad2deg(torch.atan2(pose[:, 1], pose[:, 2])), noisy))
        return make_inputs(noisy, timesteps, condition, pose)

    monkeypatch.setattr(prior, "make_inputs", watched)
    pose_test(prior, some_views(3, relative_azimuth=20.0), TRUTH, batch_size=3)
    torch.testing.assert_close(seen[0][0], torch.full((3,), 20.0))
    torch.testing.assert_close(seen[1][0], torch.full((3,), 35.0))
    assert torch.equal(seen[0][1], seen[1][1]), "the same noise"
