"""The diffusion models that a recipe names."""

import torch

from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.training.guide import load_priors, load_stable_diffusion, load_zero123

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
