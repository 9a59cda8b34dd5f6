"""What recorded steps share: numbers that travel together, what is skipped, what making graphs leaves as it was."""

import copy
import dataclasses
from contextlib import nullcontext

import pytest
import torch

from hash3d.schedules import constant
from hash3d.training import recorded_step
from hash3d.training.packet import Capacities, Packet, Rows
from hash3d.training.watch import Metrics

from .test_recorded_kinds import CPU, GPU, make_trainer, with_replay


def test_a_packet_brings_each_number_to_its_place():
    packet = Packet({"one": (), "three": (3,), "matrix": (2, 2)}, CPU)
    places = {name: each.data_ptr() for name, each in packet.numbers.items()}
    for turn in range(5):
        sent = {"one": torch.tensor(turn), "three": torch.arange(3) + turn, "matrix": torch.full((2, 2), 0.5 * turn)}
        packet.send(sent)
        assert all(torch.equal(packet.numbers[name], each.float()) for name, each in sent.items())
    assert {name: each.data_ptr() for name, each in packet.numbers.items()} == places


@pytest.mark.parametrize("count", [0, 1, 5, 7, 8])
def test_rows_come_in_order_and_count_once(count):
    rows = Rows({"number": torch.zeros(0, dtype=torch.int64), "vector": torch.zeros(0, 3)}, 8)
    rows.write({"number": torch.full((8,), 99), "vector": torch.full((8, 3), 99.0)})
    columns = {"number": torch.arange(count), "vector": torch.rand(count, 3)}
    rows.write(columns)
    found = rows.read()
    counted = found.pop("counted")
    assert {name: len(each) for name, each in found.items()} == {"number": 8, "vector": 8}
    assert all(torch.equal(found[name][counted], each) for name, each in columns.items())
    if count:
        repeats = found["number"].bincount()
        assert repeats.max() - repeats.min() <= 1, "spread over all"
        assert torch.equal(found["vector"], columns["vector"][found["number"]])


def test_memory_serves_fewer_rows_too_until_waste_costs_more_than_new_memory():
    capacities = Capacities()
    made = capacities.choose([100_000, 50_000], [])
    assert all(1.1 * count <= each < 1.1 * count + 2048 for count, each in zip((100_000, 50_000), made, strict=True))
    assert capacities.choose([90_000, 50_000], [made]) == made
    assert capacities.choose([90_000, 60_000], [made]) != made, "one of them does not fit"
    assert capacities.choose([60_000, 40_000], [made, (75_000, 55_000)]) == (75_000, 55_000)
    assert capacities.choose([], [()]) == capacities.choose([], []) == ()
    assert capacities.choose([0], []) == (2048,)
    large, uses = (1_000_000,), 0
    while (found := capacities.choose([100_000], [large])) == large:
        uses += 1
    assert 110_000 <= found[0] < 113_000
    assert uses == 4
    assert capacities.choose([990_000], [large, found]) == large
    assert all(capacities.choose([910_000], [large]) == large for _ in range(1000)), "no waste"


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
        trainer.recorded._skipped = Metrics({"loss": torch.tensor(loss)})
    assert active == [True, True, False, True]


def test_a_scene_whose_methods_were_exchanged_takes_plain_steps(tiny_recipe):
    trainer = make_trainer(tiny_recipe, recorded=True)
    seen = []
    trainer.scene.after_backward = lambda: seen.append(trainer.scene.model.means.grad)
    trainer.step()
    assert len(seen) == 1
    assert seen[0] is not None


class Graph:
    """In place of a CUDA graph: what it would hold runs while it is made."""

    pool = replay = staticmethod(lambda: None)


@pytest.mark.parametrize("name", ["recorded", "recorded_fit"])
def test_making_graphs_changes_nothing(tiny_recipe, monkeypatch, name):
    """Neither a step that is taken to choose kernels nor one that is written down counts."""
    trainer = make_trainer(with_replay(tiny_recipe), recorded=True, fused=True)
    for _ in range(3):
        trainer.step()
    before = copy.deepcopy(trainer.scene.state_dict())
    step, made = getattr(trainer, name), []
    for each in ("beside", "recorded_into"):
        monkeypatch.setattr(recorded_step, each, lambda *given, **_: made.append(given) or nullcontext())
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    step.recorded, step._key, step.replay = True, None, lambda part: None
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
