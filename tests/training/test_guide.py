"""The diffusion models that a recipe names."""

import pytest
import torch

from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.training.guide import load_priors, load_stable_diffusion, load_zero123, scale_timesteps

CPU = torch.device("cpu")


def test_each_guidance_gets_the_model_that_the_recipe_names_for_it(tiny):
    priors = load_priors(tiny("magic123"), CPU)
    assert {name: type(prior) for name, prior in priors.items()} == {
        "image": Zero123Prior,
        "text": StableDiffusionPrior,
    }
    assert next(iter(priors)) == "image", "the first is the main one"


def test_models_are_channels_last_on_a_cpu_and_a_pose_convention_is_taken_over(prior_folder, text_prior_folder):
    for prior in (load_zero123(str(prior_folder), CPU), load_stable_diffusion(str(text_prior_folder), CPU)):
        assert prior.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
        assert prior.dtype == torch.float32
    assert [load_zero123(str(prior_folder), CPU, pose).pose_variant for pose in ("xl", "stable")] == ["xl", "stable"]


@pytest.mark.parametrize(("first", "second"), [((20, 980), (20, 600)), ((600, 980), (200, 600)), ((5, 9), (0, 999))])
def test_the_scale_timesteps_of_another_range(first, second):
    """Both ends stay, order stays, equal steps stay equal up to rounding, and so it covers the other range evenly."""
    timesteps = torch.arange(first[0], first[1] + 1)
    found = scale_timesteps(timesteps, first, second)
    assert (int(found[0]), int(found[-1])) == second
    assert (found.diff() >= 0).all()
    step = (second[1] - second[0]) / (first[1] - first[0])
    assert ((found - second[0]).double() - step * (timesteps - first[0]).double()).abs().max() <= 0.5 + 1e-9
    assert torch.equal(scale_timesteps(timesteps, first, first), timesteps)


def test_the_scale_timesteps_of_one_timestep_is_the_other_range_s_first():
    assert scale_timesteps(torch.tensor([500]), (500, 500), (20, 600)).tolist() == [20]
