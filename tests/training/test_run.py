"""A run in its folder: outputs, interruption, kill and resume."""

import dataclasses
import json
import multiprocessing
import os
import random
import signal
import threading
import time

import pytest
import torch

from hash3d.export.points import read_ply
from hash3d.training.run import Run

OUTPUTS = {"recipe.json", "metrics.jsonl", "input.png", "preview.png", "turntable.mp4", "model.ply", "summary.json"}


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


def test_interrupt_exports_and_resumes(finished, tiny_recipe, tmp_path):
    def interrupt(trainer, _):
        if trainer.step_count == 6:
            os.kill(os.getpid(), signal.SIGINT)

    path, before = tmp_path / "run", signal.getsignal(signal.SIGINT)
    summary = Run(tiny_recipe, path, progress=interrupt).execute()
    assert not summary["completed"]
    assert summary["steps"] == len(series(path)) == 6
    assert {file.name for file in path.iterdir()} >= OUTPUTS
    assert Run(tiny_recipe, path, resume=True).execute()["completed"]
    assert series(path) == series(finished)
    assert signal.getsignal(signal.SIGINT) is before


def test_a_run_in_another_thread_leaves_signals_alone(tiny_recipe, tmp_path):
    run, before = Run(tiny_recipe, tmp_path / "run"), signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=run.train)
    thread.start()
    thread.join()
    assert run.completed
    assert signal.getsignal(signal.SIGINT) is before


def test_resume_before_the_first_checkpoint_starts_again(finished, tiny_recipe, tmp_path):
    Run(tiny_recipe, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text('{"loss": 0}\n')
    Run(tiny_recipe, tmp_path / "run", resume=True).execute()
    assert series(tmp_path / "run") == series(finished)


def slow_run(recipe, path, threads, saved):
    """A run whose steps leave time to be killed in. Sums depend on the number of threads, so all runs have the same."""
    torch.set_num_threads(threads)
    first = []

    def wait(trainer, _):
        first.append(trainer.step_count)
        if trainer.step_count % 2 and trainer.step_count > first[0] + 1:
            saved.set()
        time.sleep(0.03)

    Run(recipe, path, resume=True, progress=wait).execute()


def test_ten_kills_at_random_moments_lose_nothing(finished, tiny_recipe, tmp_path):
    """kill -9, ten times, each followed by --resume: the series is the uninterrupted run's.

    Every other kill comes while the run loads, the rest after a new checkpoint. All runs are children that load
    compiled kernels (`finished` has compiled them): kernels that a process compiled itself may round otherwise.
    """
    moments = random.Random(0)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hash3d.training.run", "numba"])
    stage = dataclasses.replace(tiny_recipe.stage, steps=48)
    recipe = dataclasses.replace(tiny_recipe, stage=stage, checkpoint_every=2)

    def start(path):
        saved = context.Event()
        process = context.Process(target=slow_run, args=(recipe, path, torch.get_num_threads(), saved))
        process.start()
        return process, saved

    def finish(path):
        process, _ = start(path)
        process.join()
        assert process.exitcode == 0
        return series(path)

    path = tmp_path / "run"
    for kill in range(10):
        process, saved = start(path)
        if kill % 2:
            assert saved.wait(timeout=60)
        process.join(timeout=moments.uniform(0, 0.15 if kill % 2 else 0.6))
        assert process.exitcode is None
        process.kill()
        process.join()
    assert (path / "checkpoint").exists()
    resumed = finish(path)
    assert len(resumed) == 48
    assert resumed == finish(tmp_path / "whole")
    assert not list(path.glob("**/.*.tmp*"))


def test_a_full_disk_leaves_the_last_checkpoint(tiny_recipe, tmp_path, monkeypatch):
    """Writing fails in the middle of the second checkpoint; the first one is still whole, and the run resumes."""
    path, save, calls = tmp_path / "run", torch.save, []

    def failing_save(state, target):
        calls.append(1)
        if len(calls) == 2:
            target.write_bytes(b"half a checkpoint")
            raise OSError(28, "No space left on device", str(target))
        save(state, target)

    monkeypatch.setattr(torch, "save", failing_save)
    with pytest.raises(OSError, match="No space left"):
        Run(tiny_recipe, path).execute()
    monkeypatch.undo()
    run = Run(tiny_recipe, path, resume=True)
    assert run.trainer.step_count == 4
    assert run.execute()["completed"]
