"""What is counted and shared of a diffusion model."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from hash3d.bench.deepcache import DeepCachePackage, works
from hash3d.bench.operations import encoder_work, pass_work, seeing
from hash3d.bench.sharing import num_bytes, with_shared_weights
from hash3d.bench.step_times import StepTimes
from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_models import tiny_stable_diffusion, tiny_zero123


@pytest.fixture
def prior():
    return tiny_stable_diffusion()


@pytest.fixture
def inputs(prior):
    torch.manual_seed(0)
    noisy, embeddings = torch.randn(1, 4, 8, 8), prior.embed(["a red mug", ""])
    return prior.guided_inputs(noisy, torch.tensor([500]), embeddings[:1], embeddings[1:])


def other(inputs):
    return {**inputs, "sample": inputs["sample"].roll(1, -1)}


def test_copies_share_memory_and_no_hooks(prior, inputs):
    copy = with_shared_weights(prior)
    assert num_bytes(copy, besides=prior) == 0
    assert num_bytes(copy) == num_bytes(prior) > 0
    copy.unet.register_forward_hook(lambda *_: pytest.fail("only the copy has this hook"))
    with torch.no_grad():
        prior.unet(**inputs)


def test_a_copy_that_lays_its_weights_out_anew_leaves_the_others(prior):
    copy = with_shared_weights(prior)
    copy.unet.to(memory_format=torch.channels_last)
    assert prior.unet.conv_in.weight.is_contiguous()
    assert num_bytes(copy, besides=prior) > 0


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


def test_operations_are_those_of_the_layers():
    """A convolution of 3 x 3 from 4 to 8 channels at 8 x 8 places: 2 * 9 * 4 * 8 * 64."""
    from hash3d.bench.operations import _counted

    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))
    picture = torch.zeros(1, 4, 8, 8)
    operations, weights = _counted(model, lambda: model[0](picture))
    assert operations == 2 * 9 * 4 * 8 * 64
    assert weights == 4 * (9 * 4 * 8 + 8)


def test_a_shallow_pass_is_less_work_the_later_the_cut(prior, inputs):
    full, shallow = zip(*(pass_work(prior.unet, inputs, cut) for cut in (0, 6, 11)), strict=True)
    assert len({work.operations for work in full}) == 1
    for earlier, later in ((full[0], shallow[0]), *pairwise(shallow)):
        assert later.operations < earlier.operations


def test_the_encoder_s_gradient_counts_if_there_is_one():
    """Back through the encoder the same products run once more: its own weights get no gradient."""
    prior = tiny_zero123().requires_grad_(False)
    works = []
    for differentiable in (False, True):
        with seeing(prior) as seen:
            prior.encode(torch.zeros(1, 3, 32, 32, requires_grad=differentiable))
        works.append(encoder_work(prior, seen))
    assert works[0].operations > 0
    # The attention's products have two gradients each, so a little more than twice.
    assert 2.0 <= works[1].operations / works[0].operations < 2.3
    with seeing(prior) as seen:
        pass
    assert encoder_work(prior, seen).operations == 0


def test_step_times_keep_the_steps_apart():
    times = StepTimes(torch.device("cpu"))
    for parts in (("render", "render"), ("unet",)):
        times.mark_step()
        for part in parts:
            with times.part(part):
                pass
    times.mark_step()
    (first_ms, first), (second_ms, second) = times.take()
    assert (set(first), set(second)) == ({"render"}, {"unet"})
    assert first["render"] <= first_ms
    assert second["unet"] <= second_ms
    assert times.take() == []
