"""The weights that ship with the package."""

import pytest
import torch

from hash3d.diffusion.loading import EMBEDDED
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.model_files import embedded_folder
from prior_training.matcher import Matcher
from prior_training.novel_views import RelativePose, held_out_views
from prior_training.sampling import sample_pictures, sample_views
from prior_training.world import sample_objects
from prior_training.world.catalogue import HELD_OUT
from prior_training.world.words import COLORS, NOUNS


@pytest.fixture(scope="module")
def mini_sd():
    return StableDiffusionPrior.load(embedded_folder("mini-sd"))


def files(name):
    return [file for file in embedded_folder(name).rglob("*") if file.is_file()]


@pytest.mark.parametrize("name", [*EMBEDDED, "mini-matcher", "mini-elevation"])
def test_the_folders_are_small_and_hold_nothing_that_is_unpickled(name):
    assert sum(file.stat().st_size for file in files(name)) <= 32_000_000
    assert {file.suffix for file in files(name)} <= {".json", ".safetensors", ".txt"}


@pytest.mark.parametrize("name", EMBEDDED)
def test_the_weights_are_finite_halves(name):
    prior = (StableDiffusionPrior if name == "mini-sd" else Zero123Prior).load(embedded_folder(name))
    assert all(torch.isfinite(parameter).all() for parameter in prior.parameters())
    assert all(torch.equal(parameter, parameter.half().float()) for parameter in prior.parameters())


def test_a_seed_makes_the_picture(mini_sd):
    first, again, other = (sample_pictures(mini_sd, ["a green cactus"], num_steps=2, seed=seed) for seed in (3, 3, 4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_mini_sd_shows_the_prompt(mini_sd):
    """The matcher, which shares no weights with it, reads colour and noun off quick samples."""
    asked = [("red", "apple"), ("blue", "mug")]
    prompts = [f"a {color} {noun}, front view" for color, noun in asked]
    pictures = sample_pictures(mini_sd, prompts, guidance_scale=5.0, num_steps=8, seed=0)
    labels = Matcher.load(embedded_folder("mini-matcher")).labels(pictures)
    assert [COLORS[index] for index in labels.color.tolist()] == [color for color, _ in asked]
    assert [NOUNS[index] for index in labels.noun.tolist()] == [noun for _, noun in asked]


@pytest.mark.nightly
def test_mini_zero123_turns_objects():
    """Quick samples of the side of held-out objects are nearer to the truth than copies of the front, by a decibel."""
    prior = Zero123Prior.load(embedded_folder("mini-zero123"))
    objects = sample_objects(HELD_OUT + 1000 + torch.arange(6))
    views, truth = held_out_views(objects, RelativePose(azimuth=90.0), prior.image_size)
    pose = views.pose(prior.pose_variant)
    side = sample_views(prior, views.inputs, pose, guidance_scale=2.0, num_steps=5, seed=0)
    errors = [(guess - truth).square().mean((1, 2, 3)).log10().mean() for guess in (side, views.inputs)]
    assert 10 * (errors[1] - errors[0]) > 1.0
