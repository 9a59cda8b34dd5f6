"""A finished run to damage, and the steps that leave a checkpoint in the middle."""

import shutil
from dataclasses import replace

import pytest

from hash3d.training.run import Run


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("made") / "run"


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
