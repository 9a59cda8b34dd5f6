"""Captured features are those of the U-Net, and residuals are what score distillation takes."""

import pytest
import torch

from hash3d.diffusion.partial_unet import PartialUNet
from hash3d.experiments.residuals import Passes, by_view, cosine, relative_error
from tests.tiny_models import tiny_zero123


@pytest.fixture(scope="module")
def passes():
    return Passes(tiny_zero123(), guidance_scale=3.0)


@pytest.fixture(scope="module")
def views(passes):
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 3, 4, 8, 8, generator=generator)
    with torch.no_grad():
        condition = passes.prior.condition(torch.rand(3, 3, 32, 32, generator=generator))
        pose = torch.rand(3, 4, generator=generator)
        return passes.noisy_views(latents, noise, torch.tensor([100, 500, 900]), condition, pose)


def test_one_pass_captures_what_enters_at_every_cut(passes, views):
    full = passes.full(views)
    assert set(full.joints) == set(range(6))
    for cut, joint in full.joints.items():
        output, feature = PartialUNet(passes.prior.unet, cut).full_pass(**views.inputs)
        assert torch.equal(joint.feature, feature)
        assert torch.equal(output.sample, full.prediction)
        assert torch.equal(passes.shallow(views, cut, joint.feature), full.prediction)
    assert not any(module._forward_pre_hooks for module in passes.prior.unet.modules())


def test_the_skip_is_what_a_shallow_pass_computes_anew(passes, views):
    """With another feature the skip at the cut stays, and the prediction changes."""
    joint = passes.full(views).joints[passes.default_cut]
    assert joint.skip.shape[0] == joint.feature.shape[0] == 2 * len(views)
    moved = passes.shallow(views, passes.default_cut, joint.feature + 1.0)
    assert not torch.allclose(moved, passes.full(views).prediction)


def test_the_residual_is_the_guided_prediction_minus_the_noise(passes, views):
    prediction = passes.full(views).prediction
    conditional, unconditional = prediction.chunk(2)
    guided = unconditional + 3.0 * (conditional - unconditional)
    signal, sigma = passes.prior.schedule.coefficients(views.timesteps, guided)
    wanted = signal * guided + sigma * views.noisy - views.noise  # The tiny prior predicts v.
    assert torch.allclose(passes.residual(views, prediction), wanted)
    alone = signal * conditional + sigma * views.noisy - views.noise
    assert torch.allclose(passes.residual(views, prediction, guidance_scale=1.0), alone, atol=1e-6)


def test_figures_of_rows():
    values = torch.tensor([[3.0, 4.0], [1.0, 0.0], [2.0, 0.0]])
    others = torch.tensor([[-3.0, -4.0], [0.0, 1.0], [1.0, 0.0]])
    assert cosine(values, others).tolist() == pytest.approx([-1.0, 0.0, 1.0])
    assert relative_error(values, others).tolist() == pytest.approx([2.0, 2.0**0.5, 1.0])


def test_both_branches_of_a_view_come_together():
    assert by_view(torch.tensor([[10.0], [20.0], [11.0], [21.0]])).tolist() == [[[10], [11]], [[20], [21]]]
