"""Recorded steps of fields are the plain ones: samples that were chosen ahead, some of them repeated, count once.

Without a GPU the parts run as they are.
"""

import copy
import dataclasses

import pytest
import torch

from hash3d.rendering.shading import ShadingConfig
from hash3d.representations.background import EnvironmentConfig
from hash3d.schedules import constant, ramp
from hash3d.systems.stages import replay
from hash3d.training import packet

from .test_recorded_kinds import CPU, GPU, compare, make_trainer
from .test_recorded_step import make_no_graphs

SYSTEMS = ("zero123_nerf", "dreamfusion", "latent_nerf")
STEPS = 20
SMOOTH = ramp((0, 1.0), (20, 5.0))


@pytest.fixture
def field(tiny):
    """A system's recipe with all that its full scale has: light, a learned background, losses of the normals."""

    def build(name, *, soft=True, **changes):
        recipe = tiny(name, steps=STEPS)
        stage = dataclasses.replace(recipe.stage, pixel_stride=1)
        losses = {"orientation": SMOOTH, "sparsity": constant(1.0)}
        if name in ("zero123_nerf", "magic123"):
            losses |= {"normal_smoothness": SMOOTH, "normal_smoothness_3d": SMOOTH}
        else:
            activation = "none" if name == "latent_nerf" else "sigmoid"
            changes["background"] = EnvironmentConfig(color_activation=activation)
        if name == "dreamfusion":
            changes["shading"] = ShadingConfig(albedo_until=4, soft=soft)
        changes["representation"] = dataclasses.replace(stage.representation, adam_eps=1e-3)
        changes["losses"] = dataclasses.replace(stage.losses, **losses)
        return dataclasses.replace(recipe, stage=dataclasses.replace(stage, **changes))

    return build


def pair(recipe, device=CPU):
    return tuple(make_trainer(recipe, recorded=each, device=device) for each in (False, True))


def compare_fields(plain, recorded, steps):
    """What `compare` says, and of the whole field: rounding moves single samples over a threshold of visibility."""
    compare(plain, recorded, steps, names=())
    expected, found = (
        torch.cat([each.flatten() for each in (*scene.model.parameters(), *scene.background.parameters())])
        for scene in (plain.scene, recorded.scene)
    )
    assert (found - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize("name", [*SYSTEMS, "magic123"])
def test_steps_are_the_plain_ones(field, name):
    """Over updates of the occupied cells and new levels, with features reused, in every light; of two models."""
    plain, recorded = pair(field(name))
    compare_fields(plain, recorded, STEPS)
    assert recorded.recorded.is_active
    assert 0 < recorded.cache.statistics.shallow < STEPS


@pytest.fixture
def replayed(field):
    """With two targets a step, of which one is made in each second step."""

    def build(name):
        recipe = field(name, soft=False)
        config = dataclasses.replace(replay(recipe.stage, 2).replay, fitted=2, until=0.8)
        return dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, replay=config))

    return build


@pytest.mark.parametrize("name", SYSTEMS)
def test_fits_are_the_plain_ones(replayed, name):
    """Targets in light of several kinds are fitted plainly."""
    plain, recorded = pair(replayed(name))
    seen = []
    for _ in range(STEPS):
        compare_fields(plain, recorded, 1)
        seen.append(recorded.recorded_fit.is_active)
    assert seen[:3] == [False, False, True], "there are two targets"
    assert (sum(seen[:16]) < 14) == (name == "dreamfusion")
    assert recorded.recorded.is_active
    assert torch.equal(recorded.replay.generator.get_state(), plain.replay.generator.get_state())


@pytest.mark.parametrize("name", ["recorded", "recorded_fit"])
def test_making_graphs_changes_nothing(replayed, monkeypatch, name):
    """Nor does making others, for more samples."""
    trainer = make_trainer(replayed("latent_nerf"), recorded=True, fused=True)
    for _ in range(3):
        trainer.step()
    before = copy.deepcopy(trainer.scene.state_dict())
    step = getattr(trainer, name)
    made = make_no_graphs(monkeypatch, step)
    choose, more, kept = trainer.scene.choose_samples, [0, 0, 20_000, 0], []
    monkeypatch.setattr(trainer.scene, "choose_samples", lambda *view: [sum(choose(*view)) + more.pop(0)])
    monkeypatch.setattr(packet, "ROOM", 2.0)
    for waste in (1e9, 1e9, 1e9, 0.0):
        monkeypatch.setattr(packet, "WASTE", waste)
        step(3)
        kept.append([sum(rows) for _, rows in step._recordings])
    assert kept[0] == kept[1], "what is new has room"
    assert kept[2][0] > kept[1][0] + 20_000, "and takes the place of what was too small"
    assert [len(each) for each in kept] == [1, 1, 1, 2]
    assert len(made) == 3 * (1 + len(step.parts))
    after = trainer.scene.state_dict()
    for part in ("model", "background"):
        torch.testing.assert_close(after[part], before[part], rtol=0, atol=0)
    torch.testing.assert_close(after["optimizer"]["state"], before["optimizer"]["state"], rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.parametrize("name", [*SYSTEMS, "magic123"])
def test_graphs_take_the_plain_steps(field, name):
    """Convolutions and sums are others, and atomic: after some steps samples differ, in two plain runs too."""
    plain, recorded = pair(field(name), GPU)
    compare(plain, recorded, 12 if name == "magic123" else STEPS, names=(), error=2e-2)
    assert recorded.recorded is not None
    assert recorded.recorded.is_active
    assert not recorded.recorded._failed


@pytest.mark.gpu
@pytest.mark.parametrize("name", SYSTEMS)
def test_graphs_fit_kept_views_too(replayed, name):
    plain, recorded = pair(replayed(name), GPU)
    compare(plain, recorded, STEPS, names=(), error=2e-2)
    assert recorded.recorded_fit is not None
    assert recorded.recorded_fit._recordings
    assert not recorded.recorded_fit._failed


@pytest.mark.gpu
def test_recordings_for_other_numbers_of_samples_take_turns(field, monkeypatch):
    """They share their memory: what one leaves is used before the next runs."""
    for name, number in {"STEP": 64, "ROOM": 1.0, "WASTE": 0}.items():
        monkeypatch.setattr(packet, name, number)
    cameras = dataclasses.replace(field("dreamfusion").stage.cameras, radius_range=(1.2, 3.0))
    plain, recorded = pair(field("dreamfusion", cameras=cameras), GPU)
    compare(plain, recorded, STEPS, names=(), error=2e-2)
    assert len(recorded.recorded._recordings) > 1
