"""The options of --resume: honoured, or refused by name."""

import dataclasses
from itertools import repeat
from multiprocessing.pool import ThreadPool

import pytest

from hash3d.cli.resume import names_of, new_folder, resume_recipe, with_steps
from hash3d.training.run_folder import RunFolder


@pytest.fixture
def out(tiny_recipe, tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(tiny_recipe)
    folder.unlock()
    return folder.path


def resume(out, names, *, system="zero123_gs", build=lambda steps: None, steps=None, every=None):
    return resume_recipe(out, system, {"out", "resume", *names}, build, steps=steps, every=every)


def test_the_run_s_own_recipe_with_what_may_change(out, tiny_recipe):
    assert resume(out, {"device", "engine"}) == tiny_recipe
    stage = dataclasses.replace(tiny_recipe.stage, steps=20)
    more = dataclasses.replace(tiny_recipe, stage=stage, checkpoint_every=3)
    assert resume(out, {"steps", "checkpoint_every"}, steps=20, every=3) == more
    assert with_steps(tiny_recipe, None) == tiny_recipe
    with pytest.raises(ValueError, match="at least 1 step"):
        resume(out, {"steps"}, steps=0)


@pytest.mark.parametrize("name", ["seed", "prior", "no_cache", "preset", "scale", "cache.cut", "encoding"])
def test_another_option_is_refused_by_its_name(out, name):
    with pytest.raises(ValueError, match=f"no --{name.replace('_', '-')} with --resume"):
        resume(out, {name})


def test_another_system_or_no_folder_is_refused(out):
    with pytest.raises(ValueError, match=r"a run of sds_gs in .* it is one of zero123_gs"):
        resume(out, set(), system="sds_gs")
    with pytest.raises(ValueError, match="--out with --resume"):
        resume(None, set())


def test_the_whole_command_must_agree_but_for_the_steps(out, tiny_recipe):
    assert resume(out, {"image"}, build=lambda steps: with_steps(tiny_recipe, steps), steps=15).steps == 15
    other = dataclasses.replace(tiny_recipe, seed=4)
    assert resume(out, {"image"}, build=lambda steps: other) == other, "the run says in what it differs"


def test_an_empty_out_is_refused():
    assert names_of(["zero123_gs", "--out", "x", "--checkpoint-every=3", "--no-cache"]) == {
        "out", "checkpoint_every", "no_cache",
    }  # fmt: skip
    for arguments in (["--out", ""], ["--out="]):
        with pytest.raises(ValueError, match="--out to name a folder"):
            names_of(arguments)


def test_runs_that_start_together_have_folders_of_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with ThreadPool(8) as pool:
        folders = pool.map(new_folder, repeat("zero123_gs-cup", 40))
    assert len(set(folders)) == 40
    assert all(folder.is_dir() for folder in folders)
