"""One run: its row, and what of it is judged."""

from dataclasses import replace

import pytest

from hash3d.evaluation import metrics
from hash3d.guidance.targets import ReplayConfig
from hash3d.table import worker
from hash3d.table.objects import InputObject, Job, Machine
from hash3d.table.worker import attempt


class OneJob(Job):
    """A job of a given recipe."""

    def recipe(self):
        return RECIPES[self.label]


RECIPES = {}


def job_of(recipe, **item):
    RECIPES["tiny"] = recipe
    return OneJob(study="test", label="tiny", input=InputObject(**item), seed=0)


def test_a_text_is_judged_by_its_words_and_by_clip(tiny_text_recipe, tmp_path, monkeypatch):
    def load(names, reference, *, weights):
        assert (names, reference, weights) == (["clip_b32"], "a red mug", tmp_path)
        return {"clip_b32": lambda image, _: float(len(image))}

    monkeypatch.setattr(metrics, "load_measures", load)
    monkeypatch.setattr(metrics, "VIEW_SIZE", 32)
    monkeypatch.setattr(worker, "JUDGED_VIEWS", 2)
    machine = Machine(runs=tmp_path, metrics=("lpips_vgg", "clip_b32"), weights=tmp_path)
    outcome = attempt(job_of(replace(tiny_text_recipe, cache=None), text="a red mug"), machine)
    assert outcome.error == ""
    row = outcome.row
    assert {"noun_found", "color_found"} <= row.keys()
    assert (row["clip_b32"], row["system"], row["object"]) == (32.0, "sds_gs", "a_red_mug")
    assert row["unets"]["text"] == {
        "prior": tiny_text_recipe.priors["text"], "cut": None, "full": 12, "shallow": 0, "single": 0,
    }  # fmt: skip
    assert outcome.strip.startswith(b"\xff\xd8")


def test_both_stages_count(tiny, tmp_path):
    recipe = tiny("magic3d", cache=None, steps=2)
    row = attempt(job_of(recipe, text="a red mug"), Machine(runs=tmp_path)).row
    assert (row["steps"], row["full"]) == (recipe.steps, recipe.steps)
    assert recipe.steps > recipe.stage.steps


def test_a_failure_is_told(tiny_text_recipe, tmp_path):
    broken = replace(tiny_text_recipe, priors={"text": str(tmp_path / "none")})
    outcome = attempt(job_of(broken, text="a mug"), Machine(runs=tmp_path))
    assert outcome.row is None
    assert "Expected the prior" in outcome.error


@pytest.mark.parametrize(("scale", "single"), [(1.0, 2), (3.0, 0)])
def test_passes_of_one_branch_are_those_of_replay_at_scale_1(scale, single, tiny_recipe, picture_file, tmp_path):
    stage = replace(tiny_recipe.stage, steps=6, replay=ReplayConfig(every=3, guidance_scale=scale))
    recipe = replace(tiny_recipe, cache=None, stage=stage)
    row = attempt(job_of(recipe, path=picture_file), Machine(runs=tmp_path)).row
    assert (row["full"], row["unets"]["image"]["full"], row["unets"]["image"]["single"]) == (2, 2, single)
    assert (row["pose"], "psnr" in row) == ("stable", False)
