"""A tiny recipe, its models, and one measurement of it that the tests share."""

import dataclasses

import pytest
import torch

from hash3d.bench.measure import measure
from hash3d.cache import Hash3DConfig
from hash3d.pictures import load_picture
from hash3d.systems.stages import VIEW_ORDER
from hash3d.training.guide import load_priors
from hash3d.training.run import frame_reference
from tests.tiny_models import tiny_stable_diffusion
from tests.tiny_recipes import tiny_system

PLAN = {"steps": 8, "warm_up": 4, "block": 4}


def load(recipe):
    priors = load_priors(recipe, torch.device("cpu"))
    picture = frame_reference(recipe, next(iter(priors.values())), load_picture(recipe.image))
    return priors, picture


@pytest.fixture(scope="session")
def recipe(prior_folder, text_prior_folder, picture_file):
    """Every cell is visited four times, as in the mini recipe, but of half as many cells at a time."""
    small = tiny_system(
        "zero123_gs", image=picture_file, prior=prior_folder, text_prior=text_prior_folder, cache=Hash3DConfig()
    )
    return dataclasses.replace(
        small, stage=dataclasses.replace(small.stage, view_order=dataclasses.replace(VIEW_ORDER, active_cells=4))
    )


@pytest.fixture(scope="session")
def results(recipe):
    """The four cases."""
    return measure(recipe, load(recipe), **PLAN)


@pytest.fixture
def prior():
    return tiny_stable_diffusion()


@pytest.fixture
def inputs(prior):
    torch.manual_seed(0)
    noisy, embeddings = torch.randn(1, 4, 8, 8), prior.embed(["a red mug", ""])
    return prior.make_guided_inputs(noisy, torch.tensor([500]), embeddings[:1], embeddings[1:])
