"""On a GPU a step of Gaussians never waits for the device, and the numbers that come late are those it computed."""

import dataclasses
import json
from contextlib import contextmanager

import pytest
import torch

from hash3d.pictures import frame_picture, load_picture
from hash3d.training import trainer as trainer_module
from hash3d.training.run import Run
from hash3d.training.trainer import Trainer
from hash3d.training.watch import Metrics
from tests.tiny_models import tiny_zero123

WARM_UP, CHECKED = 24, 24
"""Kernels are built, cells are filled and passes of each kind are recorded in the first; the others may not wait."""


@contextmanager
def sync_debug_mode(mode):
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@pytest.mark.gpu
def test_a_step_waits_for_nothing(tiny_recipe):
    stage = dataclasses.replace(tiny_recipe.stage, steps=WARM_UP + CHECKED, densify=None)
    recipe = dataclasses.replace(tiny_recipe, stage=stage)
    prior = tiny_zero123().to("cuda")
    trainer = Trainer(recipe, {"image": prior}, frame_picture(load_picture(recipe.image), 32, "keep"))
    rows = [trainer.step() for _ in range(WARM_UP)]
    before = trainer.cache.statistics.shallow
    with sync_debug_mode("error"):
        rows += [trainer.step() for _ in range(CHECKED)]
    assert trainer.recorded is not None
    assert trainer.recorded.is_active
    trainer.close()
    assert 0 < trainer.cache.statistics.shallow - before < CHECKED, "full and shallow passes were checked"
    assert [row["step"] for row in rows] == list(map(float, range(WARM_UP + CHECKED)))
    assert all(row["loss"] == pytest.approx(sum(row[name] for name in row if name.startswith("loss_"))) for row in rows)


def compare_rows(recipe, path, device, monkeypatch):
    """The rows of a run's metrics.jsonl are the numbers that its steps computed, read at once."""
    expected = []

    class ReadAtOnce(Metrics):
        def __init__(self, numbers):
            shown = {name: value for name, value in numbers.items() if not name.startswith("not_finite")}
            expected.append({name: float(value) for name, value in shown.items()})
            super().__init__(numbers)

    monkeypatch.setattr(trainer_module, "Metrics", ReadAtOnce)
    Run(recipe, path, device=device).train()
    assert [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] == expected
    assert len(expected) == recipe.steps


@pytest.mark.parametrize("name", ["zero123_gs", "zero123_nerf"])
def test_rows_are_what_the_steps_computed(tiny, name, tmp_path, monkeypatch):
    compare_rows(tiny(name), tmp_path / "run", "cpu", monkeypatch)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["zero123_gs", "zero123_nerf"])
def test_rows_of_a_gpu_are_what_the_steps_computed(tiny, name, tmp_path, monkeypatch):
    compare_rows(tiny(name, steps=12), tmp_path / "run", "cuda", monkeypatch)
