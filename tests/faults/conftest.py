"""A finished run to damage, and the steps that leave a checkpoint in the middle."""

import copy
import shutil
from dataclasses import replace

import pytest

from hash3d.training.guide import load_priors
from hash3d.training.run import Run

PRIORS = {}


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("made") / "run"


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    """Runs start with copies of a prior that was loaded once: that takes most of a start."""

    def load(recipe, device):
        key = (tuple(recipe.priors.items()), device, recipe.pose)
        if key not in PRIORS:
            PRIORS[key] = load_priors(recipe, device)
        return copy.deepcopy(PRIORS[key])

    monkeypatch.setattr("hash3d.training.run.load_priors", load)


@pytest.fixture
def recipe(tiny_recipe):
    return replace(tiny_recipe, stage=replace(tiny_recipe.stage, steps=4), checkpoint_every=2)


@pytest.fixture
def folder(made, recipe, tmp_path):
    """A finished run of four steps, copied."""
    if not made.exists():
        Run(recipe, made).execute()
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"
