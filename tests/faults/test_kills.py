"""Runs that are killed or signalled at random moments, and resumed: their losses are those of one that nothing hit."""

import itertools
import json
import multiprocessing
import os
import random
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from hash3d.files import load_tensors
from hash3d.training import outputs
from hash3d.training.run import Run

SIGNALS = ((signal.SIGKILL,), (signal.SIGTERM,), (signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGHUP,))


def execute(recipe, path, signals=(), delay=0.0):
    """Go on with a run in this process, which sends itself signals after some seconds."""
    torch.set_num_threads(1)
    outputs.VIDEO_FRAMES, outputs.VIDEO_SIZE, outputs.PREVIEW_SIZE = 2, 32, 32
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)

    def send():
        for number in signals:
            os.kill(os.getpid(), number)
            time.sleep(0.02)

    timer = threading.Timer(delay, send)
    timer.daemon = True
    if signals:
        timer.start()
    Run(recipe, path, resume=True).execute()


@pytest.fixture
def start(recipe):
    """`start(path, signals, delay)`: a run of 12 steps in a child of its own, awaited. Returns its exit code."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.test_kills", "hash3d.diffusion.zero123", "numba"])
    recipe = replace(recipe, stage=replace(recipe.stage, steps=12))

    def run(path, *arguments):
        process = context.Process(target=execute, args=(recipe, path, *arguments))
        process.start()
        process.join()
        return process.exitcode

    return run


def series(path):
    return [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]


def hit(start, folder, seed):
    """Hit a run until it is done. Yields after each hit."""
    draw = random.Random(seed)
    assert start(folder / "whole") == 0
    assert start(folder / "again") == 0
    assert series(folder / "again") == series(folder / "whole")
    seconds = json.loads((folder / "again/summary.json").read_text())["seconds"]["total"]
    for number in itertools.count():
        path = folder / str(number)
        for _ in range(8):
            start(path, draw.choice(SIGNALS), draw.uniform(0.0, seconds))
            assert_sound(path)
            yield
        assert start(path) == 0
        assert series(path) == series(folder / "whole")
        assert json.loads((path / "summary.json").read_text())["completed"]
        assert not list(path.glob("**/.*.tmp*"))


def assert_sound(path: Path):
    """What a hit has left is whole."""
    for file in path.glob("*.json"):
        json.loads(file.read_text())
    if (path / "checkpoint/state.pt").exists():
        load_tensors(path / "checkpoint/state.pt", "cpu", sealed=True)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_many_signals(start, tmp_path, record_property, seed):
    """SIGKILL, SIGTERM, Ctrl+C once and twice, SIGHUP at a random moment: each resumed, eight a run."""
    for number, _ in zip(range(112), hit(start, tmp_path, seed), strict=False):
        record_property("tried", number + 1)
