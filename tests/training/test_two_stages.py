"""Runs of two stages: killed at any step and resumed, and what their caches do."""

import dataclasses
import json
import signal

import pytest
import torch

from hash3d.cache import DeepCacheConfig
from hash3d.scenes.base import find_kind
from hash3d.training.outputs import load_asset
from hash3d.training.run import Run
from hash3d.unet import remove_hash3d

KILLS = {"gaussiandreamer": range(1, 7), "dreamgaussian": (2, 4, 5), "magic3d": (2, 4, 5), "magic123": (3, 5)}
"""Steps after which runs of two stages are killed: each, or one before a checkpoint and one in the second stage."""


class KilledError(BaseException):
    """Nothing in the package catches it, and nothing is written after it."""


@pytest.fixture
def recipe(request, tiny):
    return tiny(request.param, steps=3)


def train(recipe, path, killed_at=None):
    """Go on with the run in a folder, to its end or until the kill after a step, counted from 1 over all stages."""

    def kill(_, metrics):
        if metrics["step"] + 1 == killed_at:
            raise KilledError

    run = Run(recipe, path, resume=True, progress=kill)
    try:
        run.train()
    except KilledError:
        return None
    return run


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("recipe", "kills"),
    [pytest.param(*each, marks=[pytest.mark.nightly] * (each[0] != "gaussiandreamer")) for each in KILLS.items()],
    indirect=["recipe"],
)
def test_a_kill_at_any_step_of_either_stage_loses_nothing(recipe, kills, tmp_path):
    """One run is killed after each of some steps in turn, between checkpoints at steps 2 and 3 of each stage."""
    recipe = dataclasses.replace(recipe, checkpoint_every=2)
    whole = train(recipe, tmp_path / "whole")
    for step in kills:
        assert train(recipe, tmp_path / "killed", killed_at=step) is None
    resumed = train(recipe, tmp_path / "killed")
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert [row["step"] for row in rows(tmp_path / "whole")] == list(range(6))
    first, second = (run.summary([])["stages"] for run in (whole, resumed))
    assert first == second
    assert [stage["steps"] for stage in first] == [3, 3]
    for name, values in whole.trainer.scene.model.state_dict().items():
        if isinstance(values, torch.Tensor):
            assert torch.equal(values, resumed.trainer.scene.model.state_dict()[name]), name


@pytest.mark.parametrize("recipe", ["magic3d"], indirect=True)
def test_the_stages_follow_each_other(recipe, tmp_path):
    run = train(recipe, tmp_path / "run")
    found = rows(tmp_path / "run")
    assert "occupied" in found[2]
    assert "faces" in found[3]
    assert run.completed
    assert run.steps == recipe.steps == 6
    summary = run.summary([])
    assert summary["unet"]["full"] + summary["unet"]["shallow"] == 6


@pytest.mark.parametrize("recipe", ["magic123"], indirect=True)
def test_passes_of_both_diffusion_models_are_counted(recipe, tmp_path):
    summary = train(recipe, tmp_path / "run").summary([])
    for stage in summary["stages"]:
        for name in ("unet", "text_unet"):
            assert stage[name]["full"] + stage[name]["shallow"] == 3
        assert stage["cache"]["hits"] == stage["unet"]["shallow"]
        assert stage["text_cache"]["hits"] == stage["text_unet"]["shallow"]
    assert summary["unet"]["full"] + summary["unet"]["shallow"] == 12


@pytest.mark.parametrize("recipe", ["dreamgaussian"], indirect=True)
@pytest.mark.parametrize("interval", [1, 2, 3])
def test_deepcache_in_the_second_stage_is_full_once_in_its_interval(recipe, tmp_path, interval):
    """7 passes a picture start with a full one: ceil(7 / interval) are full."""
    refinement = dataclasses.replace(recipe.refinement, cache=DeepCacheConfig(interval=interval))
    run = train(dataclasses.replace(recipe, refinement=refinement), tmp_path / "run")
    unet = run.summary([])["stages"][1]["unet"]
    full = 3 * -(-7 // interval)
    assert (unet["full"], unet["shallow"]) == (full, 21 - full)


@pytest.mark.parametrize("recipe", ["dreamgaussian"], indirect=True)
def test_without_a_cache_every_pass_of_both_stages_is_full(recipe, tmp_path):
    """The stage's own DeepCache is on only where the run has a cache."""
    summary = train(dataclasses.replace(recipe, cache=None), tmp_path / "run").summary([])
    assert [(stage["unet"]["full"], stage["unet"]["shallow"]) for stage in summary["stages"]] == [(3, 0), (21, 0)]
    assert [stage["cache"] for stage in summary["stages"]] == [None, None]


@pytest.mark.parametrize("recipe", ["gaussiandreamer"], indirect=True)
def test_a_second_stage_ends_with_its_diffusion_model_as_it_was(recipe, tmp_path):
    run = train(recipe, tmp_path / "run")
    assert run.trainer.cache.statistics.full > 0
    assert "forward" not in vars(run.prior.unet)
    remove_hash3d(run.prior.unet)  # There is nothing to remove, which is no error.


@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize("recipe", ["dreamgaussian"], indirect=True)
def test_an_interruption_in_the_first_stage_exports_and_resumes(recipe, tmp_path):
    def interrupt(trainer, _):
        if (trainer.number, trainer.step_count) == (0, 2):
            signal.raise_signal(signal.SIGINT)

    summary = Run(recipe, tmp_path / "run", progress=interrupt).execute()
    assert not summary["completed"]
    assert summary["steps"] == 2
    assert all((tmp_path / "run" / name).stat().st_size > 0 for name in summary["outputs"])
    first, _ = load_asset(tmp_path / "run", torch.device("cpu"))
    assert type(first) is type(find_kind(recipe.stage.representation).blank(recipe.up_to(0)))
    summary = Run(recipe, tmp_path / "run", resume=True).execute()
    assert summary["completed"]
    models = {path.name for path in (tmp_path / "run").glob("model.*")}
    assert models == {name for name in summary["outputs"] if name.startswith("model.")}
    train(recipe, tmp_path / "whole")
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
