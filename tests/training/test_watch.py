"""The watch: steps that are skipped without a wait, counts, and when a run stops."""

import json
import math

import pytest
import torch

from hash3d.training import run as run_module
from hash3d.training.run import Run
from hash3d.training.watch import Metrics, NotFiniteError, Watch, step_if_finite


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(
    ("loss", "gradient", "flags"),
    [
        (1.0, 2.0, {"loss": 0.0, "gradients": 0.0}),
        (math.nan, 2.0, {"loss": 1.0, "gradients": 0.0}),
        (1.0, -math.inf, {"loss": 0.0, "gradients": 1.0}),
        (1.0, 1e25, {"loss": 0.0, "gradients": 1.0}),  # Its square is infinite.
    ],
)
def test_a_step_is_taken_or_skipped_whole(fused, loss, gradient, flags):
    parameters = [torch.nn.Parameter(torch.ones(3)) for _ in range(2)]
    optimizer = torch.optim.Adam(parameters, lr=0.1, fused=fused)
    for value in (1.0, gradient):
        for each in parameters:
            each.grad = torch.ones(3)
        parameters[1].grad[1] = value
        before = [each.detach().clone() for each in parameters]
        found = step_if_finite(optimizer, torch.tensor(1.0 if value == 1.0 else loss))
    assert {name: float(flag) for name, flag in found.items()} == flags
    skipped = any(flags.values())
    for each, old in zip(parameters, before, strict=True):
        assert torch.equal(each.detach(), old) == skipped
        state = optimizer.state[each]
        assert float(state["step"]) == (1.0 if skipped else 2.0)
        assert state["exp_avg_sq"].isfinite().all()


def row(step, **flags):
    return Metrics({"step": float(step), "loss": 1.0, **{f"not_finite_{name}": value for name, value in flags.items()}})


def test_only_raised_flags_are_in_a_row_and_counted():
    watch = Watch(100)
    assert "not_finite_loss" not in watch.read(row(0, loss=0.0, guidance=0.0))
    with pytest.warns(UserWarning, match="^Step 1: the guidance is not finite; its part is left out"):
        assert watch.read(row(1, loss=0.0, guidance=1.0))["not_finite_guidance"] == 1.0
    watch.read(row(2, guidance=1.0))
    assert watch.counts == {"guidance": 2}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("steps", "patience"), [(100, 5), (3, 3), (1, 1)])
def test_so_many_of_the_last_steps_stop(steps, patience):
    watch = Watch(steps)
    for step in range(patience - 1):
        watch.check(watch.read(row(step, loss=1.0) if step % 2 else row(step, gradients=1.0)))
    with pytest.raises(
        NotFiniteError, match=f"had none in {patience} of the last {patience} steps, up to step 9. The run has diverged"
    ):
        watch.check(watch.read(row(9, loss=1.0)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("every", "last"), [(1, 4), (2, 8), (3, None), (10, None)])
def test_every_second_bad_step_stops_and_every_third_does_not(every, last):
    watch = Watch(100)
    for step in range(100):
        numbers = watch.read(row(step, guidance=float(step % every == 0)))
        if step == last:
            with pytest.raises(NotFiniteError, match=f"guidance had none in 5 of the last {last + 1} steps, up to"):
                watch.check(numbers)
            return
        watch.check(numbers)
    assert watch.counts == {"guidance": len(range(0, 100, every))}


@pytest.mark.parametrize("name", ["gaussians", "faces"])
def test_an_empty_scene_stops(name):
    with pytest.raises(NotFiniteError, match=f"no {name} are left after step 7"):
        Watch(100).check({"step": 7.0, name: 0.0})


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
        def __init__(self, *_):
            pass

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
