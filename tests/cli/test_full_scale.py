"""Full scale: nothing small in silence, the proven layer and visits, the released code's settings."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from hash3d.cache import PRESETS, RELEASED, Hash3DConfig
from hash3d.cli import bench as bench_command
from hash3d.cli import main
from hash3d.cli.full_scale import (
    FULL_SCALE_CUT,
    STABLE_DIFFUSION_21,
    STABLE_ZERO123,
    TOGETHER,
    UNUSED,
    WHY,
    choose_cache,
    expect_full_size,
    explain_choices,
)
from hash3d.cli.generate import build_recipe, parse
from hash3d.systems import SYSTEMS

BY_NAME = {system.name: system for system in SYSTEMS}
FULL = ("supplement", "released")
INPUTS = {"image": ("--image", "x.png"), "prompt": ("--prompt", "a red mug")}


def words(system, *options):
    return [system, *(word for name in BY_NAME[system].inputs for word in INPUTS[name]), *options]


def complete(system):
    """The options that full scale asks for."""
    options = ["--prior", "some/prior"]
    options += ["--text-prior", "other/prior"] if system == "magic123" else []
    return options + (["--start", "random"] if system == "gaussiandreamer" else [])


@pytest.mark.parametrize("system", BY_NAME)
@pytest.mark.parametrize("scale", FULL)
def test_full_scale_needs_a_prior_by_name(system, scale):
    suggested = STABLE_ZERO123 if "image" in BY_NAME[system].inputs else STABLE_DIFFUSION_21
    with pytest.raises(
        ValueError, match=f"Expected --prior at full scale, .*{BY_NAME[system].embedded}.* --prior {suggested}"
    ):
        build_recipe(parse(words(system, "--scale", scale, *complete(system)[2:])))
    recipe = build_recipe(parse(words(system, "--scale", scale, *complete(system))))
    assert next(iter(recipe.priors.values())) == "some/prior"


def test_magic123_needs_its_second_prior_too():
    with pytest.raises(
        ValueError, match=r"Expected --text-prior at full scale, .*Pass --text-prior stable-diffusion-v1-5/"
    ):
        build_recipe(parse(words("magic123", "--prior", "some/prior")))
    named = build_recipe(parse(words("magic123", "--prior", "some/prior", "--text-prior", "mini-sd")))
    assert named.priors["text"] == "mini-sd"
    assert (
        build_recipe(parse(words("magic123", "--prior", "some/prior", "--scale", "mini"))).priors["text"] == "mini-sd"
    )


def test_gaussiandreamer_needs_a_shape_or_the_word_random():
    with pytest.raises(ValueError, match=r"Expected --start at full scale, .*--start random"):
        build_recipe(parse(words("gaussiandreamer", "--prior", "some/prior")))
    random = build_recipe(parse(words("gaussiandreamer", "--prior", "some/prior", "--start", "random")))
    assert random.start is None
    assert build_recipe(parse(words("gaussiandreamer"))).start is None
    # Others start from points as the released code does.
    assert build_recipe(parse(words("sds_gs", "--prior", "some/prior"))).start is None


@pytest.mark.parametrize("system", BY_NAME)
def test_an_embedded_prior_that_is_named_is_wanted(system):
    expect_full_size(BY_NAME[system], BY_NAME[system].embedded, "mini-sd", Path("random"))


@pytest.mark.parametrize("system", BY_NAME)
def test_full_scale_keeps_the_paper_s_layer_and_visits_a_cell_twice(system):
    full, mini = (build_recipe(parse(words(system, *options))) for options in (complete(system), []))
    assert full.cache == Hash3DConfig(cut=FULL_SCALE_CUT)
    assert mini.cache == Hash3DConfig()
    assert full.stage.view_order.visits_per_cell == 2 <= mini.stage.view_order.visits_per_cell
    uncached = build_recipe(parse(words(system, *complete(system), "--no-cache")))
    assert uncached.stages == full.stages, "a run without the cache has the same views"


def test_what_is_given_wins():
    given = parse(words("zero123_gs", *complete("zero123_gs"), "--cache.cut", "-1", "--dwell", "4"))
    recipe = build_recipe(given)
    assert (recipe.cache.cut, recipe.stage.view_order.visits_per_cell) == (-1, 4)
    assert bench_command.parse(["zero123_gs", "--prior", "random", "--cache.cut", "-1"]).cache.cut == -1
    assert bench_command.parse(["zero123_gs", "--prior", "random"]).cache.cut == FULL_SCALE_CUT
    assert bench_command.parse(["zero123_gs"]).cache == Hash3DConfig()


@pytest.mark.parametrize(
    ("system", "probability", "grid"),
    [
        ("zero123_gs", 0.1, RELEASED.grid),
        ("gaussiandreamer", 0.3, RELEASED.grid),
        ("dreamgaussian", 0.5, replace(RELEASED.grid, radius=20.0)),
    ],
)
@pytest.mark.parametrize("scale", ["mini", "released"])
def test_the_released_code_s_reuse_is_the_system_s_own(system, probability, grid, scale):
    """cache_p and delta_t of the released configurations (Adamdad/hash3D cc48922)."""
    recipe = build_recipe(parse(words(system, *complete(system), "--scale", scale, "--preset", "released")))
    assert recipe.cache == replace(RELEASED, reuse_probability=probability, grid=grid)
    assert recipe.cache.grid.timestep == 20.0
    changed = parse(words(system, "--preset=released", "--cache.reuse-probability", "0.2"))
    assert changed.cache == replace(RELEASED, reuse_probability=0.2, grid=grid)


@pytest.mark.parametrize("preset", ["paper", "deepcache"])
@pytest.mark.parametrize("mini", [False, True])
def test_other_presets_are_the_same_at_every_scale(preset, mini):
    assert choose_cache("dreamgaussian", preset, mini=mini) == PRESETS[preset]


@pytest.mark.parametrize(
    ("scale", "preset", "mini", "cached", "expected"),
    [
        (None, "default", True, True, []),
        (None, "default", False, True, [WHY]),
        ("supplement", "paper", False, True, []),
        ("released", "default", False, True, [WHY, TOGETHER]),
        ("released", "released", False, True, []),
        ("supplement", "released", False, True, [TOGETHER]),
        ("mini", "released", True, True, [TOGETHER]),
        ("released", "default", False, False, []),
    ],
)
def test_what_is_told(scale, preset, mini, cached, expected):
    assert list(explain_choices(scale, preset, mini=mini, cached=cached, asked=False)) == expected


@pytest.mark.parametrize("given", [["--no-cache"], ["--quality", "best"], ["--replay-every", "2"], []])
def test_options_of_a_cache_that_is_not_there_are_told(given, prior_folder, picture_file, tmp_path, capsys):
    arguments = ["generate", "zero123_gs", "--image", picture_file, "--prior", prior_folder, "--out", tmp_path / "run"]
    more = ["--scale", "mini", "--steps", "1", "--cache.queue-length", "7"]
    with pytest.raises(SystemExit):
        main([str(each) for each in (*arguments, *more, *given)])
    assert capsys.readouterr().err.count(UNUSED) == bool(given)


def test_the_summary_says_why(prior_folder, picture_file, tmp_path, capsys):
    """A run with a tiny prior, and the settings that belong to the released code apart from its scale."""
    arguments = ["generate", "zero123_gs", "--image", picture_file, "--prior", prior_folder, "--out", tmp_path / "run"]
    with pytest.raises(SystemExit) as left:
        main([str(each) for each in (*arguments, "--scale", "mini", "--steps", "2", "--preset", "released")])
    assert left.value.code == 0
    assert capsys.readouterr().err.count(TOGETHER) == 1
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["notes"] == [TOGETHER]


@pytest.mark.parametrize("command", [("generate", "zero123_gs"), ("bench",)])
def test_the_help_says_why(command, capsys):
    with pytest.raises(SystemExit):
        main([*command, "--help"])
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "proven at mini scale only" in told
