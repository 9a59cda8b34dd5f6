"""Each kind of recorded step is the plain one: the same numbers, the same random numbers, the same rows.

Without a GPU its two parts run as they are, also with the kernels of a GPU's Adam, which decides on the device.
"""

import dataclasses

import pytest
import torch

from hash3d.pictures import frame_picture, load_picture
from hash3d.schedules import constant
from hash3d.systems.stages import replay
from hash3d.training.recorded_kinds import RecordedDistillation, RecordedFit, can_distil
from hash3d.training.trainer import Trainer
from tests.tiny_recipes import load_priors

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def make_trainer(recipe, *, recorded, fused=None, device=CPU):
    picture = frame_picture(load_picture(recipe.image), 32, "keep") if recipe.image else None
    priors = {name: prior.float().to(device) for name, prior in load_priors(recipe, CPU).items()}
    trainer = Trainer(recipe, priors, picture, device=device, engine="auto" if device == CPU else "graph")
    assert can_distil(trainer)
    if device == CPU:
        for group in trainer.scene.optimizer.param_groups:
            group["fused"] = fused
    return let_record(trainer, recorded, device)


def let_record(trainer, recorded, device):
    """The trainer, whose steps are recorded or plain; on a CPU the parts run as they are."""
    if not recorded:
        trainer.recorded = trainer.recorded_fit = None
    elif device == CPU:
        trainer.recorded = RecordedDistillation(trainer, recorded=False)
        trainer.recorded_fit = RecordedFit(trainer, trainer.replay, recorded=False) if trainer.replay else None
    return trainer


GAUSSIANS = ("means", "sh0", "opacity_logits", "log_scales")


def compare(plain, recorded, steps, names=GAUSSIANS, error=1e-4):
    """Steps of two trainers have the same rows, and leave the same model and generators. Returns the rows.

    Up to rounding: one of them has its learning rates in single precision. The gradient of a round Gaussian's rotation
    is nothing but rounding, and Adam makes a whole step of it.
    """
    rows = []
    for _ in range(steps):
        expected, found = dict(plain.step()), dict(recorded.step())
        assert list(found) == list(expected)
        assert found == pytest.approx(expected, rel=error, nan_ok=True)
        rows.append(found)
    for name in names:
        each = recorded.scene.model.state_dict()[name]
        torch.testing.assert_close(each, plain.scene.model.state_dict()[name], rtol=error, atol=error)
    for name, generator in recorded.generators.items():
        assert torch.equal(generator.get_state(), plain.generators[name].get_state()), name
    assert recorded.cache is None or recorded.cache.statistics == plain.cache.statistics
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


def with_replay(recipe):
    """The recipe with two targets a step of which one is made in each second one, and distillation at the end."""
    config = dataclasses.replace(replay(recipe.stage, 2).replay, fitted=2, until=0.5)
    return dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, replay=config))


def test_a_recorded_fit_is_the_plain_one(tiny_recipe):
    """From the third step on, when there are two targets, over a densification, to steps of distillation."""
    plain, recorded = (make_trainer(with_replay(tiny_recipe), recorded=each) for each in (False, True))
    compare(plain, recorded, 2)
    assert not recorded.recorded_fit.is_active
    assert compare(plain, recorded, 5)[-1]["gaussians"] > 40
    assert recorded.recorded_fit.is_active
    assert recorded.recorded.is_active
    assert torch.equal(recorded.replay.generator.get_state(), plain.replay.generator.get_state())


def test_a_field_whose_reference_view_is_a_lattice_of_pixels_is_not_recorded(tiny):
    recipe = tiny("zero123_nerf")
    assert recipe.stage.pixel_stride == 2
    trainer = Trainer(recipe, load_priors(recipe, CPU), frame_picture(load_picture(recipe.image), 32, "keep"))
    assert not can_distil(trainer)
    assert trainer.recorded is None


@pytest.mark.gpu
def test_graphs_take_the_plain_steps(recipe):
    """Anew after a densification. The plain step has another rasteriser and other convolutions."""
    plain, recorded = (make_trainer(recipe, recorded=each, device=GPU) for each in (False, True))
    rows = compare(plain, recorded, 7, error=2e-2)
    assert recorded.recorded is not None
    assert recorded.recorded.is_active
    assert recipe.stage.densify is None or rows[-1]["gaussians"] > 40 == rows[0]["gaussians"]


@pytest.mark.gpu
def test_a_graph_fits_kept_views_too(tiny_recipe):
    plain, recorded = (make_trainer(with_replay(tiny_recipe), recorded=each, device=GPU) for each in (False, True))
    compare(plain, recorded, 5, error=2e-2)
    assert recorded.recorded_fit is not None
    assert recorded.recorded_fit.is_active


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
