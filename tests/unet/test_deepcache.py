"""The package DeepCache (Ma et al. 2024, https://pypi.org/project/DeepCache/) on a U-Net: its passes are ours."""

from types import SimpleNamespace

import pytest
import torch

from hash3d.cache import DeepCacheConfig
from hash3d.unet import apply_hash3d, remove_hash3d
from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_models import tiny_unet, unet_inputs

VIEW = {"elevation": 10.0, "azimuth": 30.0, "radius": 1.5}


@torch.no_grad()
def run_package(unet, calls, *, interval, skip):
    """The predictions of calls; its helper finds the step in a scheduler's list, so that it is counted here."""
    helper = pytest.importorskip("DeepCache").DeepCacheSDHelper(pipe=SimpleNamespace(unet=unet))
    helper.set_params(cache_interval=interval, cache_branch_id=skip)
    helper.enable()
    forward, found = helper.function_dict["unet_forward"], []
    for number, inputs in enumerate(calls):
        helper.cur_timestep = number
        found.append(forward(**inputs)[0])
    helper.disable()
    return found


def make_calls(unet, count):
    inputs = unet_inputs(unet)
    return [{**inputs, "sample": inputs["sample"].roll(each, -1)} for each in range(count)]


@torch.no_grad()
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_the_package_s_shallow_pass_is_ours(skip):
    """Its branch b keeps the skips up to b, as our cut num_cuts - 1 - b does."""
    unet = tiny_unet()
    first, second = make_calls(unet, 2)
    partial = PartialUNet(unet, -1 - skip)
    _, feature = partial.full_pass(**first)
    ours = partial.shallow_pass(feature, **second)[0]
    # The same layers of the same inputs, so bit for bit.
    assert torch.equal(run_package(unet, [first, second], interval=2, skip=skip)[1], ours)


@torch.no_grad()
def test_our_deepcache_is_the_package(request):
    """Which calls run in full, and every prediction."""
    unet = tiny_unet()
    calls = make_calls(unet, 9)
    expected = run_package(unet, calls, interval=4, skip=PartialUNet(unet, -1).skip)
    cache = apply_hash3d(unet, DeepCacheConfig(interval=4, cut=-1))
    for inputs, wanted in zip(calls, expected, strict=True):
        with cache.view(**VIEW, timestep=float(inputs["timestep"].flatten()[0])):
            assert torch.equal(unet(**inputs)[0], wanted)
    assert (cache.statistics.full, cache.statistics.shallow) == (3, 6)
    remove_hash3d(unet)
