"""Timing leaves the U-Net as it was."""

import torch

from hash3d.diffusion.partial_unet import PartialUNet
from hash3d.experiments.passes import time_passes
from tests.tiny_models import tiny_zero123, unet_inputs


def test_a_time_for_each_cut():
    prior = tiny_zero123()
    inputs = unet_inputs(prior.unet)
    with torch.no_grad():
        before = prior.unet(**inputs).sample
        times = time_passes(prior, repeats=1)
        assert torch.equal(prior.unet(**inputs).sample, before)
    assert len(times["shallow"]) == PartialUNet(prior.unet).num_cuts
    assert min(times["shallow"]) > 0
