"""A recorded step is the plain one: the same numbers, the same random numbers, the same rows.

Without a GPU its two parts run as they are, also with the kernels of a GPU's Adam, which decides on the device.
"""

import copy
import dataclasses

import pytest
import torch

from hash3d.pictures import frame_picture, load_picture
from hash3d.schedules import constant
from hash3d.training.recorded_step import Packet, RecordedStep, can_record
from hash3d.training.trainer import Trainer
from tests.tiny_recipes import load_priors

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def make_trainer(recipe, *, recorded, fused=None, device=CPU):
    picture = frame_picture(load_picture(recipe.image), 32, "keep") if recipe.image else None
    priors = {name: prior.float().to(device) for name, prior in load_priors(recipe, CPU).items()}
    trainer = Trainer(recipe, priors, picture, device=device)
    assert can_record(trainer)
    if device == CPU:
        for group in trainer.scene.optimizer.param_groups:
            group["fused"] = fused
    if not recorded:
        trainer.recorded = None
    elif device == CPU:
        trainer.recorded = RecordedStep(trainer, recorded=False)
    return trainer


def compare(plain, recorded, steps, error=1e-4):
    """Steps of two trainers have the same rows, and leave the same Gaussians and generators. Returns the rows.

    Up to rounding: one of them has its learning rates in single precision. The gradient of a round Gaussian's rotation
    is nothing but rounding, and Adam makes a whole step of it.
    """
    rows = []
    for _ in range(steps):
        expected, found = dict(plain.step()), dict(recorded.step())
        assert list(found) == list(expected)
        assert found == pytest.approx(expected, rel=error, nan_ok=True)
        rows.append(found)
    for name in ("means", "sh0", "opacity_logits", "log_scales"):
        each = recorded.scene.model.state_dict()[name]
        torch.testing.assert_close(each, plain.scene.model.state_dict()[name], rtol=error, atol=error)
    for name, generator in recorded.generators.items():
        assert torch.equal(generator.get_state(), plain.generators[name].get_state()), name
    assert recorded.cache.statistics == plain.cache.statistics
    assert [each["lr"] for each in recorded.scene.optimizer.param_groups] == [
        each["lr"] for each in plain.scene.optimizer.param_groups
    ]
    return rows


@pytest.fixture(params=["picture", "text"])
def recipe(request, tiny_recipe, tiny_text_recipe):
    return tiny_recipe if request.param == "picture" else tiny_text_recipe


def test_a_recorded_step_is_the_plain_one(recipe):
    """Over a densification of the picture's, with features reused."""
    fused = recipe.image is not None or None
    plain, recorded = (make_trainer(recipe, recorded=each, fused=fused) for each in (False, True))
    rows = compare(plain, recorded, 7)
    assert 0 < recorded.cache.statistics.shallow < 7
    assert recipe.stage.densify is None or rows[-1]["gaussians"] > 40 == rows[0]["gaussians"]


def test_of_several_views_with_a_bound_and_the_encoder_s_mode_too(tiny_text_recipe):
    stage = tiny_text_recipe.stage
    guidance = dataclasses.replace(stage.guidance, max_gradient=constant(0.1), sample_latents=False)
    cameras = dataclasses.replace(stage.cameras, batch_size=2)
    stage = dataclasses.replace(stage, guidances={"text": guidance}, cameras=cameras)
    recipe = dataclasses.replace(tiny_text_recipe, stage=stage)
    compare(*(make_trainer(recipe, recorded=each) for each in (False, True)), 3)


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


def test_a_scene_whose_methods_were_exchanged_takes_plain_steps(tiny_recipe):
    trainer = make_trainer(tiny_recipe, recorded=True)
    seen = []
    trainer.scene.after_backward = lambda: seen.append(trainer.scene.model.means.grad)
    trainer.step()
    assert len(seen) == 1
    assert seen[0] is not None


def test_fields_are_not_recorded(tiny):
    recipe = tiny("zero123_nerf")
    trainer = Trainer(recipe, load_priors(recipe, CPU), frame_picture(load_picture(recipe.image), 32, "keep"))
    assert not can_record(trainer)
    assert trainer.recorded is None


def test_a_packet_brings_each_number_to_its_place():
    packet = Packet({"one": (), "three": (3,), "matrix": (2, 2)}, CPU)
    places = {name: each.data_ptr() for name, each in packet.numbers.items()}
    for turn in range(5):
        sent = {"one": torch.tensor(turn), "three": torch.arange(3) + turn, "matrix": torch.full((2, 2), 0.5 * turn)}
        packet.send(sent)
        assert all(torch.equal(packet.numbers[name], each.float()) for name, each in sent.items())
    assert {name: each.data_ptr() for name, each in packet.numbers.items()} == places


@pytest.mark.gpu
def test_graphs_take_the_plain_steps(recipe):
    """Anew after a densification. The plain step has another rasteriser and other convolutions."""
    plain, recorded = (make_trainer(recipe, recorded=each, device=GPU) for each in (False, True))
    rows = compare(plain, recorded, 7, error=2e-2)
    assert recorded.recorded is not None
    assert recorded.recorded.is_active
    assert recipe.stage.densify is None or rows[-1]["gaussians"] > 40 == rows[0]["gaussians"]


@pytest.mark.gpu
def test_making_graphs_changes_nothing(tiny_recipe):
    trainer = make_trainer(tiny_recipe, recorded=True, device=GPU)
    before = copy.deepcopy(trainer.scene.state_dict())
    assert trainer.recorded is not None
    assert trainer.recorded.prepare(0) is not None
    after = trainer.scene.state_dict()
    torch.testing.assert_close(after["model"], before["model"], rtol=0, atol=0)
    assert not any(each.any() for moments in after["optimizer"]["state"].values() for each in moments.values())
    assert not after["densifier"]["total"].any()
    assert not after["densifier"]["views"].any()


@pytest.mark.gpu
def test_a_resumed_run_goes_on_with_the_same_numbers(tiny_recipe, tmp_path):
    """From a file, to trainers with graphs and without: the file holds no trace of either."""
    whole = make_trainer(tiny_recipe, recorded=True, device=GPU)
    for _ in range(6):
        whole.step()
    torch.save(whole.state_dict(), tmp_path / "state.pt")
    expected = [whole.step()["loss"] for _ in range(3)]
    for recorded in (True, False):
        resumed = make_trainer(tiny_recipe, recorded=recorded, device=GPU)
        resumed.step()
        resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
        assert [resumed.step()["loss"] for _ in range(3)] == pytest.approx(expected, rel=2e-2)
