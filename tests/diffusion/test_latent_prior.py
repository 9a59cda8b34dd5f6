"""What tells the weights and the settings of a prior, on any device."""

import pytest
import torch

from hash3d.diffusion.noise import NoiseSchedule
from tests.tiny_models import tiny_stable_diffusion, tiny_stable_diffusion_xl, tiny_zero123

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


MAKERS = {"zero123": tiny_zero123, "text": tiny_stable_diffusion, "two texts": tiny_stable_diffusion_xl}


def embed(prior):
    if hasattr(prior, "image_encoder"):
        return prior.embed(torch.zeros(1, 3, prior.image_size, prior.image_size, device=prior.device))
    return prior.embed(["a mug"])


@pytest.mark.parametrize("name", MAKERS)
def test_encoders_at_rest_visit_the_device_for_a_call(name, monkeypatch):
    """And go home after an error too."""
    prior, moves = MAKERS[name](), []
    expected = embed(prior)
    monkeypatch.setattr(prior, "_move_encoders", lambda device: moves.append(device.type))
    assert torch.equal(embed(prior), expected)
    assert moves == []
    prior.rest_encoders()
    prior.unet.to("meta")
    with pytest.raises(Exception, match=r"."):  # The inputs are on no device.
        embed(prior)
    assert moves == ["cpu", "meta", "cpu"]


@pytest.mark.gpu
@pytest.mark.parametrize("name", MAKERS)
def test_encoders_at_rest_leave_a_gpu_and_embed_the_same(name):
    prior = MAKERS[name]().cuda()
    expected, before = embed(prior), torch.cuda.memory_allocated()
    prior.rest_encoders()
    assert torch.cuda.memory_allocated() < before
    torch.testing.assert_close(embed(prior), expected)
    found = [getattr(prior, encoder) for encoder in prior.encoders]
    assert {each.device.type for encoder in found if encoder for each in encoder.parameters()} == {"cpu"}
    assert prior.fingerprint() == MAKERS[name]().fingerprint()
