"""Timing leaves the U-Net as it was."""

import pytest
import torch

from hash3d.unet.partial_unet import PartialUNet
from research.experiments.passes import time_passes
from tests.tiny_models import tiny_zero123, unet_inputs


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_time_for_each_cut(dtype):
    prior = tiny_zero123().to(dtype)
    inputs = unet_inputs(prior.unet)
    inputs = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    with torch.no_grad():
        before = prior.unet(**inputs).sample
        times = time_passes(prior, repeats=1)
        assert torch.equal(prior.unet(**inputs).sample, before)
    assert len(times["shallow"]) == PartialUNet(prior.unet, 0).num_cuts
    assert min(times["shallow"]) > 0
