"""Recorded steps of DMTet meshes are the plain ones: rows that no surface fills have no effect.

Without a GPU the parts run as they are.
"""

import copy
import dataclasses

import pytest
import torch

from hash3d.rendering.shading import ShadingConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.scenes import rooms
from hash3d.schedules import constant
from hash3d.systems.stages import replay
from hash3d.training.recorded_kinds import can_distil

from .test_recorded_fields import compare_fields
from .test_recorded_kinds import CPU, GPU, compare, let_record, make_trainer
from .test_recorded_step import make_no_graphs

STEPS = 10


@pytest.fixture
def mesh(tiny, monkeypatch):
    """A recipe of one guidance whose second stage has light and a learned background, or a reference."""
    monkeypatch.setattr(rooms, "FIRST", 1)

    def build(name="text", **changes):
        recipe = tiny({"text": "magic3d", "image": "zero123_nerf"}[name], steps=STEPS)
        stage = tiny({"text": "magic3d", "image": "magic123"}[name], steps=STEPS).refinement
        if name == "text":
            light = ShadingConfig(albedo_until=2, soft=True, light="magic3d")
            changes = {"background": EnvironmentConfig(), "shading": light} | changes
        stage = dataclasses.replace(
            stage,
            representation=dataclasses.replace(stage.representation, adam_eps=1e-3),
            guidances={name: stage.guidances[name]},
            losses=dataclasses.replace(stage.losses, guidances={name: constant(0.1)}, opaque=constant(1.0)),
            **changes,
        )
        first = dataclasses.replace(recipe.stage, pixel_stride=1)
        return dataclasses.replace(recipe, stage=first, refinement=stage)

    return build


def make_second(recipe, *, recorded, device=CPU):
    """The trainer of the second stage, from a field as it starts."""
    trainer = make_trainer(recipe, recorded=False, device=device).next_stage()
    assert can_distil(trainer)
    return let_record(trainer, recorded, device)


def pair(recipe, device=CPU):
    return tuple(make_second(recipe, recorded=each, device=device) for each in (False, True))


@pytest.mark.parametrize("name", ["text", "image"])
def test_steps_are_the_plain_ones(mesh, name):
    """From the second on, in light of every kind, or with a reference."""
    plain, recorded = pair(mesh(name))
    compare_fields(plain, recorded, 1)
    assert not recorded.recorded.is_active
    compare_fields(plain, recorded, STEPS - 1)
    assert recorded.recorded.is_active
    assert recorded.scene.counts() == plain.scene.counts()


def test_the_first_steps_are_plain(mesh, monkeypatch):
    monkeypatch.setattr(rooms, "FIRST", 3)
    trainer, active = make_second(mesh(), recorded=True), []
    for _ in range(5):
        trainer.step()
        active.append(trainer.recorded.is_active)
    assert active == [False, False, False, True, True]


def test_fits_are_the_plain_ones(mesh):
    recipe = mesh(shading=None)
    config = dataclasses.replace(replay(recipe.refinement, 2).replay, fitted=2, until=0.8)
    recipe = dataclasses.replace(recipe, refinement=dataclasses.replace(recipe.refinement, replay=config))
    plain, recorded = pair(recipe)
    compare_fields(plain, recorded, 6)
    assert recorded.recorded_fit.is_active
    compare_fields(plain, recorded, STEPS - 6)
    assert recorded.recorded.is_active


@pytest.mark.filterwarnings("ignore:A U-Net pass gave NaN")
@pytest.mark.parametrize("which", [rooms.VERTICES, rooms.FACES, rooms.RANDOM, rooms.REFERENCE])
def test_a_step_that_needs_more_changes_nothing_and_the_next_ones_have_room(mesh, monkeypatch, which):
    """Rooms are nine tenths of what the first step needs; after the second a plain step makes them larger."""
    growth = rooms.GROWTH
    monkeypatch.setattr(rooms, "STEP", 2)
    monkeypatch.setattr(rooms, "GROWTH", tuple(0.9 if place == which else 2.0 for place in range(4)))
    recipe = mesh("image" if which == rooms.REFERENCE else "text")
    trainer = make_second(recipe, recorded=True)
    monkeypatch.setattr(trainer.recorded, "may_overflow", lambda: True)
    trainer.step()
    before = copy.deepcopy(trainer.scene.state_dict())
    row = trainer.step()
    assert trainer.recorded.is_active
    assert (row["not_finite_loss"], row["not_finite_gradients"]) == (1.0, 0.0)
    after = trainer.scene.state_dict()
    for part in ("model", "background"):
        torch.testing.assert_close(after[part], before[part], rtol=0, atol=0)
    torch.testing.assert_close(after["optimizer"]["state"], before["optimizer"]["state"], rtol=0, atol=0)
    monkeypatch.setattr(rooms, "GROWTH", growth)
    assert trainer.step()["not_finite_loss"] == 0.0
    assert not trainer.recorded.is_active
    plain = make_second(recipe, recorded=False)
    plain.load_state_dict(copy.deepcopy(trainer.state_dict()))
    compare_fields(plain, trainer, 2)
    assert trainer.recorded.is_active


def test_making_graphs_changes_nothing(mesh, monkeypatch):
    trainer = make_second(mesh(), recorded=True)
    for group in trainer.scene.optimizer.param_groups:
        group["fused"] = True
    for _ in range(3):
        trainer.step()
    before = copy.deepcopy(trainer.scene.state_dict())
    made = make_no_graphs(monkeypatch, trainer.recorded)
    trainer.recorded(3)
    assert len(made) == len(trainer.recorded.parts) + 1
    assert not trainer.scene.fixed
    after = trainer.scene.state_dict()
    for part in ("model", "background"):
        torch.testing.assert_close(after[part], before[part], rtol=0, atol=0)
    torch.testing.assert_close(after["optimizer"]["state"], before["optimizer"]["state"], rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["text", "image"])
def test_graphs_take_the_plain_steps(mesh, name):
    """Convolutions and sums are others, and atomic."""
    plain, recorded = pair(mesh(name), GPU)
    compare(plain, recorded, STEPS, names=(), error=2e-2)
    assert recorded.recorded is not None
    assert recorded.recorded.is_active
    assert not recorded.recorded._failed


@pytest.mark.gpu
@pytest.mark.filterwarnings("ignore:A U-Net pass gave NaN")
def test_a_graph_that_needs_more_room_is_made_anew(mesh, monkeypatch):
    """Some steps later, as the host does not wait; then none is skipped."""
    monkeypatch.setattr(rooms, "STEP", 2)
    monkeypatch.setattr(rooms, "GROWTH", (0.9, 0.9, 100.0, 100.0))
    trainer, skipped = make_second(mesh(), recorded=True, device=GPU), []
    for _ in range(STEPS):
        skipped.append(trainer.step()["not_finite_loss"])
        if any(skipped):
            monkeypatch.setattr(rooms, "GROWTH", (3.0, 3.0, 100.0, 100.0))
    assert skipped[1]
    assert not any(skipped[4:])
    assert trainer.recorded.is_active
    assert not trainer.recorded._failed
