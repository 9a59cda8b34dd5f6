"""A run in its folder: outputs, interruption, kill and resume."""

import dataclasses
import json
import multiprocessing
import signal
import threading
from pathlib import Path

import pytest
import torch

from hash3d.export.points import read_ply
from hash3d.files import WriteError
from hash3d.training.run import Run
from tests.tiny_models import tiny_zero123
from tests.tiny_recipes import OFTEN

OUTPUTS = {
    "recipe.json", "metrics.jsonl", "input.png", "cutout.png", "preview.png", "preview_lit.png", "turntable.mp4",
    "model.ply", "summary.json", "view.html",
}  # fmt: skip


def series(path):
    return [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, request):
    """The folder of an uninterrupted run."""
    return tmp_path_factory.mktemp("whole") / "run"


@pytest.fixture
def finished(tiny_recipe, whole):
    if not whole.exists():
        Run(tiny_recipe, whole).execute()
    return whole


def test_folder_and_summary(finished, tiny_recipe):
    names = {path.name for path in finished.iterdir()}
    assert names == OUTPUTS | {"checkpoint"}
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["completed"]
    assert summary["steps"] == len(series(finished)) == 12
    unet, (stage,) = summary["unet"], summary["stages"]
    assert stage["unet"] == unet
    assert stage["steps"] == unet["full"] + unet["shallow"] == 12
    assert unet["reuse_share"] == unet["shallow"] / 12 == stage["cache"]["hits"] / 12
    assert 0 < stage["cache"]["bytes"] <= stage["cache"]["bytes_limit"]
    assert set(stage["cache"]["mean_gap"]) == {"elevation", "azimuth", "radius", "timestep"}
    assert stage["scene"] == {"gaussians": len(read_ply(finished / "model.ply")["means"])}
    seconds = summary["seconds"]
    assert sum(value for name, value in seconds.items() if name != "total") == pytest.approx(seconds["total"])
    assert min(seconds.values()) >= 0


def test_nothing_is_written_over(finished, tiny_recipe):
    before = {path: path.read_bytes() for path in finished.iterdir() if path.is_file()}
    with pytest.raises(FileExistsError, match="--resume"):
        Run(tiny_recipe, finished)
    assert {path: path.read_bytes() for path in finished.iterdir() if path.is_file()} == before


def test_resume_with_other_options_is_refused(finished, tiny_recipe):
    with pytest.raises(ValueError, match="seed: 5 against 0"):
        Run(dataclasses.replace(tiny_recipe, seed=5), finished, resume=True)


@pytest.mark.parametrize("cache", [OFTEN, None])
def test_resume_with_other_weights_of_the_prior_is_refused(cache, tiny_recipe, tmp_path):
    """In the folder of the same name; the autoencoder's are weights of the prior too."""
    folder, path = tmp_path / "prior", tmp_path / "run"
    recipe = dataclasses.replace(tiny_recipe, priors={"image": str(folder)}, cache=cache)
    Run(recipe, path, priors={"image": tiny_zero123()}).save_checkpoint()
    other = tiny_zero123()
    other.vae.encoder.conv_in.weight.data.mul_(1.5)
    with pytest.raises(ValueError, match=f"Expected {folder} as {path} was started with"):
        Run(recipe, path, priors={"image": other}, resume=True)
    assert Run(recipe, path, priors={"image": tiny_zero123()}, resume=True).steps == 0


@pytest.mark.usefixtures("heeded_signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_interrupt_exports_and_resumes(number, finished, tiny_recipe, tmp_path):
    def interrupt(trainer, _):
        if trainer.step_count == 6:
            previews.append((path / "preview.png").exists())
            signal.raise_signal(number)

    path, before, previews, told = tmp_path / "run", signal.getsignal(number), [], []
    summary = Run(tiny_recipe, path, progress=interrupt, on_stop=lambda: told.append("once")).execute()
    assert not summary["completed"]
    assert (previews, told) == ([True], ["once"]), "the checkpoint of step 4 has left one; the user is told at once"
    assert summary["steps"] == len(series(path)) == 6
    assert {file.name for file in path.iterdir()} >= OUTPUTS
    for name in ("evaluation.json", "splats.ply", "notes.txt"):
        (path / name).write_text("{}")
    with pytest.warns(UserWarning, match=r"exported before shows the earlier one: splats\.ply\."):
        assert Run(tiny_recipe, path, resume=True).execute()["completed"]
    assert not (path / "evaluation.json").exists()
    assert series(path) == series(finished)
    assert signal.getsignal(number) is before


def test_an_ignored_signal_stays_ignored(tiny_recipe, tmp_path):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = Run(tiny_recipe, tmp_path, progress=lambda *_: signal.raise_signal(signal.SIGHUP))
        assert run.execute()["completed"]
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_in_another_thread_leaves_signals_alone(tiny_recipe, tmp_path):
    run, before = Run(tiny_recipe, tmp_path / "run"), signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run.train)
    thread.start()
    thread.join()
    assert run.completed
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore:.* has no checkpoint")
def test_resume_before_the_first_checkpoint_starts_again(finished, tiny_recipe, tmp_path):
    Run(tiny_recipe, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"loss": 0}\n')
    Run(tiny_recipe, tmp_path / "run", resume=True).execute()
    assert series(tmp_path / "run") == series(finished)


KILLS = [(1, False), (5, True)]
"""At which renaming of a file each run is killed, counted from its start, and whether the file is renamed by then."""


def run_until_killed(recipe, path, threads, renaming, renamed):
    """Go on with a run, which kills itself (-9) at a renaming of a file; `renaming` None goes on to the end.

    Sums depend on the number of threads, so all runs have the same.
    """
    torch.set_num_threads(threads)
    replace, count = Path.replace, 0

    def replace_or_die(self, target):
        nonlocal count
        count += 1
        if renamed or count != renaming:
            replace(self, target)
        if count == renaming:
            signal.raise_signal(signal.SIGKILL)

    Path.replace = replace_or_die
    Run(recipe, path, resume=True).train()


def test_kills_lose_nothing(finished, tiny_recipe, tmp_path):
    """kill -9 just before or after files get their names, each followed by --resume: the series is the whole run's.

    The files are recipe.json, cutout.png, input.png, then checkpoints. All runs are children that load compiled kernels
    (`finished` has compiled them): kernels that a process compiled itself may round otherwise.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "numba"])
    stage = dataclasses.replace(tiny_recipe.stage, steps=14)
    recipe = dataclasses.replace(tiny_recipe, stage=stage, checkpoint_every=2)

    def execute(path, *kill):
        process = context.Process(target=run_until_killed, args=(recipe, path, torch.get_num_threads(), *kill))
        process.start()
        process.join()
        return process.exitcode

    path = tmp_path / "run"
    for kill in KILLS:
        assert execute(path, *kill) == -signal.SIGKILL
    state = torch.load(path / "checkpoint" / "state.pt", weights_only=True)
    assert 0 < state["step"] < recipe.steps, "killed before the end, after checkpoints"
    assert execute(path, None, True) == execute(tmp_path / "whole", None, True) == 0
    assert len(series(path)) == 14
    assert series(path) == series(tmp_path / "whole")
    assert not list(path.glob("**/.*.tmp*"))


def test_a_full_disk_leaves_the_last_checkpoint(tiny_recipe, tmp_path, monkeypatch):
    """Writing fails in the middle of the second checkpoint; the first one is still whole, and the run resumes."""
    path, save, calls = tmp_path / "run", torch.save, []

    def failing_save(state, file):
        calls.append(1)
        save(state, file)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", failing_save)
    with pytest.raises(WriteError, match=r"state.pt: No space left on device. Free some space"):
        Run(tiny_recipe, path).execute()
    monkeypatch.undo()
    run = Run(tiny_recipe, path, resume=True)
    assert run.trainer.step_count == 4
    assert run.execute()["completed"]
