"""NaN and infinity at each place of each system: told, counted, recovered or stopped; checkpoints stay finite."""

import itertools
import json
import math
import warnings
from dataclasses import replace

import pytest
import torch

from hash3d.tensors import all_finite
from hash3d.training.run import Run
from hash3d.training.watch import NotFiniteError
from tests.faults.injection import PLACES, STAGES, SYSTEMS, checkpoint_is_finite, matters, run_spoiled, spoil

VALUES = (math.nan, math.inf, -math.inf)
STEPS = 7
LASTING = ("parameters", "moments")
"""What one bad number spoils for good."""
PLACED = [
    place for place in itertools.product(SYSTEMS, (0, 1), PLACES) if place[1] < STAGES[place[0]] and matters(*place)
]
TRIALS = [
    (*place, VALUES[(number + extra) % 3], kind)
    for number, place in enumerate(PLACED)
    for extra, kind in enumerate(("once", "from here on"))
]


def try_one(monkeypatch, tiny, folder, system, stage, place, value, kind, at):
    """One trial; fails with what went wrong."""
    recipe, name = tiny(system, steps=1), ("stage", "refinement")[stage]
    recipe = replace(recipe, checkpoint_every=2, **{name: replace(getattr(recipe, name), steps=STEPS)})

    def when(number, step):
        return number == stage and (step == at if kind == "once" else step >= at)

    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        error, run = run_spoiled(monkeypatch, recipe, folder, place, value, when)
    told = [str(each.message) for each in told if "not finite" in str(each.message)]
    assert checkpoint_is_finite(folder)
    if error is not None:
        assert "finite" in str(error)
        assert kind != "once" or place in LASTING, f"one step stopped the run: {error}"
        return "stopped"
    assert all_finite(run.trainer.scene.state_dict())
    count = sum(run.summary([])["not_finite"].values())
    assert count > 0 or "are pruned" in str(told), "a bad number that nobody counted"
    assert told
    return "recovered"


@pytest.mark.parametrize(
    "trial",
    [
        ("zero123_gs", 0, "mask", math.nan, "once"),
        ("sds_gs", 0, "text", math.nan, "from here on"),
        ("latent_nerf", 0, "prediction", math.inf, "once"),
        ("dreamgaussian", 1, "gradient", -math.inf, "once"),
    ],
    ids=lambda trial: "-".join(map(str, trial)),
)
def test_a_bad_number_is_told_and_spoils_no_checkpoint(trial, monkeypatch, tiny, tmp_path):
    *place, kind = trial
    try_one(monkeypatch, tiny, tmp_path / "run", *place, kind, at=1 if kind == "from here on" else 3)


@pytest.mark.nightly
@pytest.mark.parametrize("number", range(len(TRIALS)))
def test_every_bad_number_is_told(number, monkeypatch, tiny, tmp_path):
    """NaN or infinity at each place of each stage of the nine systems, in the first, third or last step."""
    at = (int("moments" in TRIALS[number]), 2, STEPS - 1)[number % 3]  # Moments are made by the first step.
    try_one(monkeypatch, tiny, tmp_path / "run", *TRIALS[number], at=at)


def test_a_run_without_guidance_is_stopped_with_advice_and_its_counts(tiny, tmp_path):
    run = Run(tiny("sds_gs", steps=3), tmp_path / "run")
    run.prior.unet.conv_out.register_forward_hook(lambda *call: spoil(call[-1], math.nan))
    advice = pytest.raises(NotFiniteError, match=r"the guidance had none in 3 of the last 3 steps.* --device cpu")
    with advice, pytest.warns(UserWarning, match="^Step 0: the guidance is not finite; its part is left out"):
        run.execute()
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert (summary["completed"], summary["not_finite"], summary["outputs"]) == (False, {"guidance": 3}, [])


def test_one_skipped_step_leaves_parameters_and_moments_as_they_were(tiny, tmp_path):
    recipe = tiny("zero123_gs")
    trainer = Run(replace(recipe, stage=replace(recipe.stage, densify=None)), tmp_path / "run").trainer
    trainer.step()
    before = {name: value.clone() for name, value in trainer.scene.model.state_dict().items()}
    state = trainer.scene.optimizer.state
    moments = [each["exp_avg_sq"].clone() for each in state.values()]
    with PLACES["gradient"](trainer, math.inf):
        row = trainer.step()
    assert row["not_finite_gradients"] == 1.0
    assert all(torch.equal(before[name], value) for name, value in trainer.scene.model.state_dict().items())
    assert all(torch.equal(each["exp_avg_sq"], old) for each, old in zip(state.values(), moments, strict=True))
    trainer.close()
