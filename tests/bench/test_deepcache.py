"""The package DeepCache on a U-Net: its passes are ours."""

import pytest
import torch

from hash3d.bench.deepcache import DeepCachePackage, record_inputs, works
from hash3d.bench.sharing import with_shared_weights
from hash3d.unet.partial_unet import PartialUNet


def other(inputs):
    return {**inputs, "sample": inputs["sample"].roll(1, -1)}


@torch.no_grad()
@pytest.mark.parametrize("skip", [0, 1, 2])
def test_the_package_s_passes_are_ours(prior, inputs, skip):
    """Its branch b keeps the skips up to b, as our cut num_cuts - 1 - b does."""
    partial = PartialUNet(prior.unet, -1 - skip)
    _, feature = partial.full_pass(**inputs)
    ours = partial.shallow_pass(feature, **other(inputs)).sample
    unet = with_shared_weights(prior).unet
    package = DeepCachePackage(unet, interval=2, skip=skip)
    unet(**inputs)
    # The same layers of the same inputs, so bit for bit.
    assert torch.equal(unet(**other(inputs)).sample, ours)
    assert (package.calls, package.shallow_calls) == (2, 1)


def test_the_package_counts_its_calls(prior, inputs):
    package = DeepCachePackage(prior.unet, interval=4, skip=0)
    assert works(package, prior.unet, inputs)
    shallow = []
    for _ in range(9):
        with torch.no_grad():
            prior.unet(**inputs)
        shallow.append(package.shallow_calls)
    assert shallow == [0, 1, 2, 3, 3, 4, 5, 6, 6]


def test_a_package_that_reuses_wrongly_is_found_out(prior, inputs):
    package = DeepCachePackage(prior.unet, interval=4, skip=0)
    forward, calls = prior.unet.forward, iter((1.0, 1.1))
    prior.unet.forward = lambda **given: (next(calls) * forward(**given)[0],)
    assert not works(package, prior.unet, inputs)


@torch.no_grad()
def test_the_last_inputs_are_recorded_and_no_more_after_the_block(prior, inputs):
    with record_inputs(prior.unet) as seen:
        prior.unet(**other(inputs))
        prior.unet(**inputs, return_dict=False)
    prior.unet(**other(inputs))
    assert seen.keys() == inputs.keys()
    assert seen["sample"] is inputs["sample"]
