"""The command from end to end on a toy run, and its tables."""

import json
from multiprocessing.pool import ThreadPool

import pytest
import torch

from hash3d.experiments import estimators
from hash3d.experiments.estimates import CONDITIONAL, ESTIMATORS, NEAREST, PREDICTION, SAME_NOISE, UNCONDITIONAL, WARPED
from hash3d.experiments.estimators import main
from hash3d.experiments.estimators_page import COSINE, figures, main_table
from hash3d.training.guide import load_zero123


@pytest.fixture
def command(objects, prior_folder, tmp_path, monkeypatch):
    """Runs the command in threads of this process on one object; returns its exit code."""
    (objects / "disc.png").unlink()
    monkeypatch.setattr(estimators, "SNAPSHOTS", (200,))  # One is enough for a test.
    in_processes = estimators.measure_missing
    monkeypatch.setattr(
        estimators, "measure_missing", lambda *given, **named: in_processes(*given, **named, pool=ThreadPool(1))
    )
    words = ["--objects", objects, "--out", tmp_path, "--page", tmp_path / "docs" / "estimators"]
    words += ["--prior", prior_folder, "--steps", 6, "--views", 1, "--noises", 2, "--timesteps", 300, 900]
    return lambda *more: main([*map(str, words), *more])


def rows_of(tmp_path):
    rows = [json.loads(line) for line in (tmp_path / "estimators.jsonl").read_text().splitlines()]
    return [row for row in rows if "cells" in row]


def test_a_toy_run(command, tmp_path, monkeypatch):
    assert command("--cuts", "3", "5") == 0
    rows = rows_of(tmp_path)
    assert [row["object"] for row in rows] == ["cup"]
    here = {"cut": 5, "age": 1, "azimuth": 10, "later": 0}
    for name in ESTIMATORS:
        assert figures(rows, name, here).shape == (1, 2, 4)
    nearest, coherent = (figures(rows, name, here)[..., COSINE].mean() for name in (NEAREST, SAME_NOISE))
    assert coherent > nearest, "the noise is most of what differs"
    assert figures(rows, WARPED, {**here, "azimuth": 0}) is None
    assert figures(rows, NEAREST, {**here, "azimuth": 20, "age": 0}) is not None
    assert figures(rows, PREDICTION, here).equal(figures(rows, PREDICTION, {**here, "cut": 3})), "it has no cut"

    page = tmp_path / "docs" / "estimators.md"
    text = page.read_text()
    assert "entries 1 steps old and 10 degrees away" in text
    monkeypatch.setattr(estimators, "load_zero123", None)  # Nothing is measured from here on.
    assert command("--cuts", "3", "5") == 0
    assert page.read_text() == text


def test_half_precision_as_on_a_gpu(command, tmp_path, monkeypatch):
    monkeypatch.setattr(estimators, "load_zero123", lambda name, device: load_zero123(name, device).half())
    assert command("--cuts", "5") == 0
    (row,) = rows_of(tmp_path)
    found = torch.tensor([cell["figures"] for cell in row["cells"]])
    assert found.isfinite().all()
    assert found[..., COSINE].abs().max() <= 1.0


def test_a_failure_is_told(command, tmp_path, capsys):
    assert command("--cuts", "3") == 1
    assert "Expected the default cut 5 among --cuts" in capsys.readouterr().out
    assert rows_of(tmp_path) == []


def test_costs():
    """The conditional branch in full and half a shallow pass; half a shallow pass; nothing."""
    place = {"cut": 7, "age": 20, "azimuth": 10, "later": 0}
    cells = [{"estimator": name, **place, "figures": [[0.5, 1.0, 0.5, 1.0]]} for name in ESTIMATORS]
    lines = [line.split(" | ") for line in main_table([{"cells": cells}], 7, 20, 0.2)[2:]]
    costs = {line[0][2:]: float(line[-1].strip(" |")) for line in lines}
    assert costs[NEAREST] == 0.2
    assert costs[UNCONDITIONAL] == 0.6
    assert costs[CONDITIONAL] == 0.1
    assert costs[PREDICTION] == 0.0
