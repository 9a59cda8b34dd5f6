"""Multiply-accumulates, against each layer's own formula, and the paper's numbers."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import nn

from hash3d.cli.systems import format_macs
from hash3d.diffusion.random_weights import TINY_UNET
from hash3d.evaluation.macs import Macs, count_known, count_macs
from hash3d.unet.partial_unet import PartialUNet

CONFIG = {**TINY_UNET, "block_out_channels": (8, 16), "in_channels": 4, "layers_per_block": 1} | {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


@pytest.fixture(scope="module")
def macs():
    return count_macs(CONFIG)


@torch.no_grad()
def test_layers_cost_outputs_times_inputs(macs):
    """A convolution makes each output of kernel x kernel x channels numbers, a linear layer of its inputs."""
    unet, seen = UNet2DConditionModel(**CONFIG).eval(), []

    def note(layer, _, output):
        of_one = layer.weight[0].numel() if isinstance(layer, nn.Conv2d) else layer.in_features
        seen.append(output.numel() * of_one)

    for layer in unet.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(note)
    inputs = {"timestep": torch.zeros(2), "encoder_hidden_states": torch.zeros(2, 77, 16)}
    sample = torch.zeros(2, 4, 8, 8)
    unet(sample, **inputs)
    assert macs.full_layers == sum(seen)
    assert len(macs.shallow) == PartialUNet(unet, 0).num_cuts
    for cut, expected in enumerate(macs.shallow_layers):
        partial = PartialUNet(unet, cut)
        _, feature = partial.full_pass(sample, **inputs)
        seen.clear()
        partial.shallow_pass(feature, sample, **inputs)
        assert expected == sum(seen)


def test_attention_adds_its_two_products(macs):
    """softmax(q k) v in each of two transformers at 4 x 4 pixels: to itself, and to 77 tokens; 16 channels wide.

    Three hold them: the down block, the middle and two of the up block.
    """
    pixels, channels, rows = 16, 16, 2
    of_one = 2 * rows * pixels * channels * (pixels + 77)
    assert macs.full - macs.full_layers == 4 * of_one


def test_a_later_cut_costs_less(macs):
    whole = [macs.full, *macs.shallow]
    assert whole == sorted(whole, reverse=True)
    assert all(layers <= whole for layers, whole in zip(macs.shallow_layers, macs.shallow, strict=True))


def test_cells_say_billions_and_shares():
    macs = Macs(full=2 * 10**9, shallow=(10**9, 5 * 10**8), full_layers=10**9, shallow_layers=(0, 0))
    assert format_macs(macs) == ["2.00 G", "1.00 G", "50.0%", "25.0%"]


@pytest.mark.nightly
@pytest.mark.parametrize(
    ("name", "off", "on"), [("stable-diffusion-2.1-base", 678.60, 622.21), ("stable-zero123", 168.78, 154.76)]
)
def test_the_paper_counts_a_tenth_of_hits_at_its_layer(name, off, on):
    """Its tables' MACs, in 10^9: i = 10 is the cut before the last."""
    macs = count_known(name)
    assert macs.full_layers / 1e9 == pytest.approx(off, rel=2e-3)
    assert (0.9 * macs.full_layers + 0.1 * macs.shallow_layers[-2]) / 1e9 == pytest.approx(on, rel=2e-3)
