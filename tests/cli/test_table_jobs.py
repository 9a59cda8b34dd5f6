"""Each run of a table is a command of `hash3d generate`."""

from dataclasses import replace
from pathlib import Path

import pytest

from hash3d.cache import PAPER
from hash3d.cli.table import Table
from hash3d.cli.table_jobs import list_jobs, write_words
from hash3d.systems import released_cache


@pytest.fixture
def prompts(tmp_path):
    (tmp_path / "prompts.txt").write_text("a red mug\na blue hat\n")
    return tmp_path / "prompts.txt"


def recipes(prompts, picture_file, **options):
    given = {"out": Path(), "objects": picture_file, "prompts": prompts, "seeds": (0,), **options}
    return {job.label: job.recipe() for job in list_jobs(Table(**given))}


@pytest.mark.parametrize("system", ["zero123_gs", "sds_gs", "magic123"])
def test_settings_differ_in_reuse(system, prompts, picture_file):
    found = recipes(prompts, picture_file, systems=(system,))
    replays = {"replay"} if system != "magic123" else set()
    assert {name for name, recipe in found.items() if not recipe.cache} == {"off"}
    assert {name for name, recipe in found.items() if recipe.stage.replay} == replays
    visits = {name: recipe.stage.view_order.visits_per_cell for name, recipe in found.items()}
    assert [visits[name] for name in ("off", "paper", "released")] == [1, 1, 1]
    assert visits["default"] > 1
    assert found["paper"].cache.grid == PAPER.grid
    assert found["released"].cache == replace(released_cache(system), seed=found["released"].seed)
    assert len({recipe.seed for recipe in found.values()}) == 1
    assert found["default"].cache.seed == found["default"].seed
    assert {recipe.system for recipe in found.values()} == {system}


def test_systems_get_what_they_start_from(prompts, picture_file):
    table = Table(out=Path(), objects=picture_file, prompts=prompts, cache=("off",), seeds=(0, 1))
    jobs = list_jobs(table)
    assert len(jobs) == 2 * (4 + 5 * 2), "two seeds of four systems from one image and five from two texts"
    places = [(job.seed, job.study, job.input.name) for job in jobs if job.study in ("zero123_nerf", "dreamfusion")]
    assert places == [
        (seed, *place)
        for seed in (0, 1)
        for place in (("zero123_nerf", "disc"), ("dreamfusion", "a_red_mug"), ("dreamfusion", "a_blue_hat"))
    ]
    assert {job.study for job in list_jobs(Table(out=Path(), objects=picture_file))} == {
        "zero123_gs", "zero123_nerf", "dreamgaussian", "magic123",
    }  # fmt: skip


def test_options_are_those_of_generate():
    table = Table(out=Path(), prior="a/zero", text_prior="a/sd", scale="supplement", steps=7)
    assert write_words("magic123", "off", table) == (
        "magic123", "--no-cache", "--dwell", "1", "--prior", "a/zero", "--scale", "supplement",
        "--steps", "7", "--text-prior", "a/sd",
    )  # fmt: skip
    words = write_words("gaussiandreamer", "replay", table)
    assert words[:3] == ("gaussiandreamer", "--replay-every", "3")
    assert words[3:5] == ("--prior", "a/sd")
    assert words[-2:] == ("--start", "random")
