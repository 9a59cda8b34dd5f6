"""Stages that the command's own test leaves out."""

import torch

from hash3d.bench.contestant import Models
from hash3d.bench.measure import Plan, measure
from hash3d.bench.summary import summarize
from hash3d.pictures import load_picture
from hash3d.scenes.build import build_model
from hash3d.training.guide import load_priors
from hash3d.training.run import frame_reference


def measured(recipe, number, wanted):
    priors = load_priors(recipe, torch.device("cpu"))
    models = Models(
        priors=priors,
        picture=frame_reference(recipe, next(iter(priors.values())), load_picture(recipe.image)),
        previous=build_model(recipe, 0, None, torch.Generator().manual_seed(0)) if number else None,
    )
    return summarize(measure(recipe, number, models, wanted))


def test_a_second_stage_denoises_in_several_passes(tiny):
    """Seven a picture: of DeepCache's interval 3 the first, fourth and seventh are full."""
    wanted = Plan(steps=2, warm_up=1, block=1, engine="auto")
    *_, ours = measured(tiny("dreamgaussian"), 1, wanted)
    assert ours.reused == 4 / 7
    assert ours.name == "ours"


def test_two_diffusion_models_count_together(tiny):
    wanted = Plan(steps=6, warm_up=2, block=3, engine="auto")
    off, _, deepcache, _, ours = measured(tiny("magic123"), 0, wanted)
    assert off.reused == 0.0 < ours.reused
    assert deepcache.note == "the package DeepCache 0.1.1"
    # Both models' operations, of which reuse leaves some out.
    assert 0 < ours.operations < off.operations
