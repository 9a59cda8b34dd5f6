"""Numbers that come late are the same numbers, in the same order."""

import json

import pytest
import torch

from hash3d.training import run as run_module
from hash3d.training.late_metrics import Metrics
from hash3d.training.run import Run


def test_a_row_keeps_its_order_and_its_numbers():
    loss = torch.tensor(0.1, requires_grad=True)
    metrics = Metrics({"step": 3.0, "loss": 2.0 * loss, "timestep": 500.0, "occupied": torch.tensor(0.25)})
    assert list(metrics) == ["step", "loss", "timestep", "occupied"]
    assert metrics["loss"] == float(2.0 * loss.detach())
    assert json.loads(json.dumps(dict(metrics)))["occupied"] == 0.25
    assert metrics == {"step": 3.0, "loss": float(2.0 * loss.detach()), "timestep": 500.0, "occupied": 0.25}
    assert metrics.arrived


def test_a_row_without_scalars():
    assert dict(Metrics({"step": 1.0})) == {"step": 1.0}


def test_what_happens_to_a_scalar_afterwards_does_not_show():
    loss = torch.tensor(1.0)
    metrics = Metrics({"loss": loss})
    loss += 1.0
    assert metrics["loss"] == 1.0


class LateByThree(Metrics):
    """Arrives when it has been asked three times."""

    asked = 0

    @property
    def arrived(self):
        self.asked += 1
        return self.asked > 3


def test_late_rows_are_all_written_in_order_and_before_each_checkpoint(tiny_recipe, tmp_path, monkeypatch):
    shown, at_checkpoints = [], []
    run = Run(tiny_recipe, tmp_path / "late", progress=lambda _, metrics: shown.append(int(metrics["step"])))
    step, save = run.trainer.step, run.folder.save_checkpoint
    monkeypatch.setattr(run.trainer, "step", lambda: LateByThree(dict(step())))
    monkeypatch.setattr(run.folder, "save_checkpoint", lambda *state: (at_checkpoints.append(len(shown)), save(*state)))
    run.train()
    prompt = Run(tiny_recipe, tmp_path / "prompt")
    prompt.train()
    assert shown == list(range(12))
    assert at_checkpoints == [4, 8, 12]
    late, at_once = ((tmp_path / name / "metrics.jsonl").read_text() for name in ("late", "prompt"))
    assert late == at_once


def test_an_interruption_leaves_the_rows_of_all_steps_done(tiny_recipe, tmp_path, monkeypatch):
    run = Run(tiny_recipe, tmp_path / "run")
    step = run.trainer.step
    monkeypatch.setattr(run.trainer, "step", lambda: LateByThree(dict(step())))

    class Stop:
        def __enter__(self):
            return lambda: run.trainer.step_count == 6

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(run_module, "stop_requests", Stop)
    run.train()
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [float(number) for number in range(6)]


@pytest.mark.gpu
def test_numbers_of_a_gpu_are_read_without_waiting_for_later_work():
    device = torch.device("cuda")
    busy = torch.randn(4096, 4096, device=device)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metrics = Metrics({"step": 0.0, "loss": torch.ones((), device=device) * 3.0})
        for _ in range(50):
            busy = busy @ busy
        last = torch.cuda.current_stream().record_event()
        assert metrics["loss"] == 3.0
        assert metrics.arrived
        assert not last.query(), "the numbers were there long before the later work"
    finally:
        torch.cuda.set_sync_debug_mode("default")
