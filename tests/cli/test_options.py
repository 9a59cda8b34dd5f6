"""The options of `generate SYSTEM`: those of its recipe and no others, known without importing torch."""

import dataclasses
import inspect
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hash3d.cache import PRESETS, RELEASED, Hash3DConfig
from hash3d.cli import bench as bench_command
from hash3d.cli import main
from hash3d.cli.generate import GIVEN, build_recipe
from hash3d.cli.options import (
    FULL_SCALE_CUT,
    STABLE_DIFFUSION_21,
    STABLE_ZERO123,
    TOGETHER,
    UNUSED,
    WHY,
    choose_cache,
    expect_full_size,
    explain_choices,
    options_of,
    parse,
)
from hash3d.systems import SYSTEMS

HEAVY = ("torch", "numpy", "diffusers", "transformers", "numba", "skimage", "scipy", "trimesh", "PIL", "av")
IMAGE = ["zero123_gs", "--image", "photo.png"]
TEXT = ["sds_gs", "--prompt", "a red mug"]


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_system_has_the_options_of_its_recipe_and_no_others(system):
    arguments = inspect.signature(system.recipe).parameters
    known = {field.name for field in dataclasses.fields(options_of(system, PRESETS["default"]))}
    assert known & set(GIVEN) == arguments.keys() - {"choices"}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--help"], 0, "generate"),
        (["--version"], 0, "hash3d 0."),
        (["systems"], 0, "zero123_gs"),
        (["generate", "zero123_gs", "--imgae", "x"], 2, "--imgae, x Perhaps you meant: --image"),
        (["generate", "zero123_gs", "--image", "no.png"], 2, "there is no file no.png"),
        (["generate", "zero124_gs"], 2, "Expected a system"),
        (["generate", "sds_gs", "--help"], 0, "--guidance-scale"),
        (["bench", "zero123_gs", "--stpes", "3"], 2, "--steps"),
        (["export", "nowhere", "--format", "ply"], 2, "recipe.json"),
        (["evaluate", "nowhere", "--truth", "."], 2, "recipe.json"),
    ],
)
def test_help_and_mistakes_import_nothing_heavy(arguments, code, said):
    script = (
        "import sys; from hash3d.cli import main\ntry: main(sys.argv[1:])\n"
        f"finally: print('imported:', *sorted(set({HEAVY}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert said in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].strip() == "imported:"


def help_of(argument, capsys):
    with pytest.raises(SystemExit, match="0"):
        parse(["zero123_gs", argument])
    return capsys.readouterr().out


def test_advanced_options_are_shown_by_help_all_alone(capsys):
    short, whole = help_of("--help", capsys), help_of("--help-all", capsys)
    for option in ("--cache.cut", "--cache.grid.azimuth", "--dwell", "--engine", "--checkpoint-every"):
        assert option not in short
        assert option in whole
    positions = [
        short.index(f" {option} ")
        for option in ("--image", "--out", "--quality", "--seed", "--device", "--size", "--prior", "--preset")
    ]
    assert positions == sorted(positions)


def test_the_help_says_a_default_once(capsys):
    assert "(default: None)" not in help_of("--help", capsys)


def test_a_flag_of_the_cache_says_what_it_sets():
    assert not parse([*IMAGE, "--cache.verify", "False"]).cache.verify
    assert parse([*IMAGE, "--preset", "released", "--cache.verify", "True"]).cache.verify


@pytest.mark.parametrize("given", [IMAGE, TEXT], ids=["image", "text"])
def test_a_quality_is_a_number_of_steps_or_reuse(given):
    good, fast, best = (build_recipe(parse([*given, "--quality", name])) for name in ("good", "fast", "best"))
    assert good == build_recipe(parse(given))
    assert (fast.steps, fast.cache, fast.stage.replay is None) == (
        good.steps // 2,
        good.cache,
        good.stage.replay is None,
    )
    assert best == build_recipe(parse([*given, "--no-cache"]))
    assert best.stage.replay is None
    assert build_recipe(parse([*given, "--quality", "fast", "--steps", "40"])).steps == 40


def test_the_system_s_own_values_can_be_given():
    options = [
        "--guidance-scale",
        "7",
        "--size",
        "32",
        "--batch-size",
        "2",
        "--lr-scale",
        "0.5",
        "--loss-scale",
        "mask",
        "0",
    ]
    (stage,) = build_recipe(parse([*IMAGE, *options])).stages
    assert (stage.guidance.guidance_scale, stage.size(0), stage.cameras.batch_size) == (7.0, 32, 2)
    assert "mask" not in stage.losses.used()


@pytest.mark.parametrize("name", ["zero123_gs", "dreamgaussian", "zero123_nerf", "sds_gs", "magic3d"])
def test_replay_is_the_default_unless_an_option_is_about_the_cache(name):
    def replays(*options):
        given = IMAGE if name.startswith(("zero", "dream")) else TEXT
        replay = build_recipe(parse([name, *given[1:], *options])).stage.replay
        return replay.every if replay else 0

    assert replays() == replays("--seed", "1") == 3
    assert replays("--no-cache") == replays("--preset", "paper") == replays("--replay-every", "0") == 0
    assert replays("--replay-every", "5", "--no-cache") == 5


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
