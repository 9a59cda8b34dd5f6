"""Settings and fixtures of the whole suite: a run small enough for a test."""

import dataclasses
import functools
import signal

import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.schedules import constant
from hash3d.systems import sds_gs, zero123_gs
from hash3d.training import outputs
from tests.tiny_models import tiny_stable_diffusion, tiny_zero123
from tests.tiny_recipes import OFTEN, load_priors, tiny_system

torch.set_num_threads(1)  # Tiny models: a second thread costs more than it gives.


@pytest.fixture(scope="session")
def prior_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior")
    tiny_zero123().save(folder)
    return folder


@pytest.fixture(scope="session")
def text_prior_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text_prior")
    tiny_stable_diffusion().save(folder)
    return folder


@pytest.fixture(scope="session")
def picture_file(tmp_path_factory):
    rows, columns = np.mgrid[:64, :64] + 0.5
    disc = ((rows - 32) ** 2 + (columns - 32) ** 2 < 20**2) * 255
    rgba = np.stack([disc, rows * 4, columns * 0 + 40, disc], axis=-1).astype(np.uint8)
    path = tmp_path_factory.mktemp("picture") / "disc.png"
    Image.fromarray(rgba).save(path)
    return path


@pytest.fixture
def tiny_recipe(prior_folder, picture_file):
    """12 steps of 32x32 pixels, with a cache that often hits and a densification round."""
    recipe = zero123_gs.recipe(image=picture_file, prior=str(prior_folder), cache=OFTEN, scale="mini", steps=12)
    stage = dataclasses.replace(
        recipe.stage,
        size=constant(32),
        reference_size=constant(32),
        representation=dataclasses.replace(recipe.stage.representation, num_points=40),
        densify=dataclasses.replace(recipe.stage.densify, every=5, start=5, stop=100, grad_threshold=1e-9),
    )
    return dataclasses.replace(recipe, stage=stage, checkpoint_every=4)


@pytest.fixture
def tiny_text_recipe(text_prior_folder):
    """The same of a text, without densification."""
    recipe = sds_gs.recipe(prompt="a red mug", prior=str(text_prior_folder), cache=OFTEN, scale="mini", steps=12)
    representation = dataclasses.replace(recipe.stage.representation, num_points=40)
    stage = dataclasses.replace(recipe.stage, size=constant(32), representation=representation)
    return dataclasses.replace(recipe, stage=stage, checkpoint_every=4)


@pytest.fixture
def tiny(prior_folder, text_prior_folder, picture_file):
    """`tiny(system, cache=..., steps=...)`: a small recipe of any system."""
    return functools.partial(tiny_system, image=picture_file, prior=prior_folder, text_prior=text_prior_folder)


@pytest.fixture
def heeded_signals():
    """Interruptions arrive also where the tests run in a shell's background, which ignores them."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(autouse=True)
def small_outputs(monkeypatch):
    """Few and small pictures: what is tested of them is that they are there and can be opened."""
    sizes = {"VIDEO_FRAMES": 4, "VIDEO_SIZE": 64, "SLOW_VIDEO": (2, 40), "BAKED_SIZE": 64}
    for name, value in {**sizes, "PREVIEW_SIZE": 32, "SHEET_SIZE": 32}.items():
        monkeypatch.setattr(outputs, name, value)


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    """Runs start with copies of priors that were loaded once."""
    monkeypatch.setattr("hash3d.training.run.load_priors", load_priors)
