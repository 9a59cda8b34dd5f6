"""What tells the weights and the settings of a prior, on any device."""

import pytest
import torch

from hash3d.diffusion.noise import NoiseSchedule
from tests.tiny_models import tiny_stable_diffusion, tiny_zero123

CHANGES = {
    "unet": lambda prior: prior.unet.conv_out.weight.data.mul_(2.0),
    "encoder": lambda prior: next(prior.image_encoder.parameters()).data.add_(0.1),
    "schedule": lambda prior: setattr(prior, "schedule", NoiseSchedule(beta_end=0.013)),
    "pose": lambda prior: setattr(prior, "pose_variant", "other"),
}


@pytest.mark.parametrize("make", [tiny_zero123, tiny_stable_diffusion])
def test_a_fingerprint_is_the_same_in_half_precision_and_any_order_of_memory(make):
    found = make().fingerprint()
    assert make().to(memory_format=torch.channels_last).fingerprint() == found
    assert make().to(torch.float16).fingerprint() == found


@pytest.mark.parametrize("name", CHANGES)
def test_a_fingerprint_is_another_for_other_weights_or_settings(name):
    prior = tiny_zero123()
    before = prior.fingerprint()
    CHANGES[name](prior)
    assert prior.fingerprint() != before
