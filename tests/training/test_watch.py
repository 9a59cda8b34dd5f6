"""The watch: steps that are skipped without a wait, counts, and when a run stops."""

import math

import pytest
import torch

from hash3d.training.late_metrics import Metrics
from hash3d.training.watch import NotFiniteError, Watch, step_if_finite


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
