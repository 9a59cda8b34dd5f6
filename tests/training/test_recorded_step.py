"""What recorded steps share: what is skipped, what making graphs leaves as it was."""

import copy
import dataclasses
from collections import deque
from contextlib import nullcontext

import pytest
import torch

from hash3d.schedules import constant
from hash3d.training import recorded_step
from hash3d.training.watch import Metrics

from .test_recorded_kinds import GPU, make_trainer, with_replay


@pytest.mark.parametrize("fused", [True, None])
def test_a_loss_that_is_not_finite_changes_nothing_and_is_told(tiny_recipe, fused):
    """Not even what a densification counts."""
    weights = dict(tiny_recipe.stage.losses.guidances)
    losses = dataclasses.replace(tiny_recipe.stage.losses, guidances=weights)
    recipe = dataclasses.replace(tiny_recipe, stage=dataclasses.replace(tiny_recipe.stage, losses=losses))
    trainer = make_trainer(recipe, recorded=True, fused=fused)
    trainer.step()
    before = copy.deepcopy(trainer.scene.state_dict())
    weights["image"] = constant(float("nan"))
    row = trainer.step()
    assert (row["not_finite_loss"], row["not_finite_gradients"], row["not_finite_guidance"]) == (1.0, 0.0, 0.0)
    after = trainer.scene.state_dict()
    torch.testing.assert_close(after["model"], before["model"], rtol=0, atol=0)
    torch.testing.assert_close(after["optimizer"]["state"], before["optimizer"]["state"], rtol=0, atol=0)
    assert torch.equal(after["densifier"]["total"], before["densifier"]["total"])


def test_after_a_skipped_step_whose_lists_may_be_short_one_is_plain(tiny_recipe, monkeypatch):
    """In it lists grow; then steps are recorded anew."""
    trainer = make_trainer(tiny_recipe, recorded=True)
    monkeypatch.setattr(trainer.recorded, "may_overflow", lambda: True)
    active = []
    for loss in (0.0, 1.0, 0.0, 0.0):
        trainer.step()
        active.append(trainer.recorded.is_active)
        trainer.recorded._skipped = deque([Metrics({"loss": torch.tensor(loss)})])
    assert active == [True, True, False, True]


def test_no_more_than_two_steps_are_taken_before_a_skipped_one_is_seen(tiny_recipe, monkeypatch):
    """Also if a GPU's numbers are late: five in ten would stop a run."""
    trainer = make_trainer(tiny_recipe, recorded=True)
    monkeypatch.setattr(trainer.recorded, "may_overflow", lambda: True)
    monkeypatch.setattr(Metrics, "arrived", property(lambda metrics: False))
    monkeypatch.setattr(recorded_step, "Metrics", lambda numbers: Metrics({"loss": torch.tensor(1.0)}))
    active = []
    for _ in range(7):
        trainer.step()
        active.append(trainer.recorded.is_active)
    assert active == [True, True, False, True, True, False, True]


def test_a_scene_whose_methods_were_exchanged_takes_plain_steps(tiny_recipe):
    trainer = make_trainer(tiny_recipe, recorded=True)
    seen = []
    trainer.scene.after_backward = lambda: seen.append(trainer.scene.model.means.grad)
    trainer.step()
    assert len(seen) == 1
    assert seen[0] is not None


def test_gradients_lie_in_memory_as_their_parameters_do(tiny_recipe, monkeypatch):
    """A GPU's Adam takes no others, and a backward pass may give some, as that of a hash grid's kernels."""
    trainer, seen = make_trainer(tiny_recipe, recorded=True), []
    trainer.scene.model.means.register_hook(lambda gradient: gradient.T.contiguous().T)
    step = recorded_step.step_if_finite

    def take(optimizer, loss):
        seen.append(trainer.scene.model.means.grad.clone())
        return step(optimizer, loss)

    monkeypatch.setattr(recorded_step, "step_if_finite", take)
    trainer.step()
    assert seen[0].stride() == trainer.scene.model.means.stride()
    assert seen[0].norm() > 0


class Graph:
    """In place of a CUDA graph: what it would hold runs while it is made."""

    pool = replay = staticmethod(lambda: None)


def make_no_graphs(monkeypatch, step):
    """Let a recorded step make graphs that hold nothing. Returns a list, longer by one with each thing recorded."""
    made = []
    for each in ("beside", "recorded_into"):
        monkeypatch.setattr(recorded_step, each, lambda *given, **_: made.append(given) or nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    step.recorded, step._key, step.replay = True, None, lambda part: None
    return made


@pytest.mark.parametrize("name", ["recorded", "recorded_fit"])
def test_making_graphs_changes_nothing(tiny_recipe, monkeypatch, name):
    """Neither a step that is taken to choose kernels nor one that is written down counts."""
    trainer = make_trainer(with_replay(tiny_recipe), recorded=True, fused=True)
    for _ in range(3):
        trainer.step()
    before = copy.deepcopy(trainer.scene.state_dict())
    step = getattr(trainer, name)
    made = make_no_graphs(monkeypatch, step)
    step(3)
    assert len(step.parts) == len(made) - 1
    after = trainer.scene.state_dict()
    torch.testing.assert_close(after["model"], before["model"], rtol=0, atol=0)
    torch.testing.assert_close(after["optimizer"]["state"], before["optimizer"]["state"], rtol=0, atol=0)
    assert torch.equal(after["densifier"]["total"], before["densifier"]["total"])
    assert torch.equal(after["densifier"]["views"], before["densifier"]["views"])


@pytest.mark.gpu
def test_making_graphs_on_a_gpu_changes_nothing(tiny_recipe):
    trainer = make_trainer(tiny_recipe, recorded=True, device=GPU)
    before = copy.deepcopy(trainer.scene.state_dict())
    assert trainer.recorded is not None
    trainer.recorded.replay = lambda part: None
    trainer.recorded(0)
    assert trainer.recorded.is_active
    assert not trainer.recorded._failed
    after = trainer.scene.state_dict()
    torch.testing.assert_close(after["model"], before["model"], rtol=0, atol=0)
    assert not any(each.any() for moments in after["optimizer"]["state"].values() for each in moments.values())
    assert not after["densifier"]["total"].any()
    assert not after["densifier"]["views"].any()
