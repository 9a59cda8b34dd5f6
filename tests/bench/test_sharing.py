"""Copies of a diffusion model around the same weights."""

import pytest
import torch

from hash3d.bench.sharing import with_shared_weights


def addresses(module):
    return [tensor.data_ptr() for tensor in module.state_dict().values()]


def test_copies_share_memory_and_no_hooks(prior, inputs):
    copy = with_shared_weights(prior)
    assert addresses(copy) == addresses(prior)
    copy.unet.register_forward_hook(lambda *_: pytest.fail("only the copy has this hook"))
    with torch.no_grad():
        prior.unet(**inputs)


def test_a_copy_that_lays_its_weights_out_anew_leaves_the_others(prior):
    copy = with_shared_weights(prior)
    copy.unet.to(memory_format=torch.channels_last)
    assert prior.unet.conv_in.weight.is_contiguous()
    assert addresses(copy) != addresses(prior)
