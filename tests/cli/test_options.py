"""The options of `generate SYSTEM`: those of its recipe and no others, known without importing torch."""

import dataclasses
import inspect
import subprocess
import sys

import pytest

from hash3d.cache import PRESETS
from hash3d.cli.generate import GIVEN, build_recipe
from hash3d.cli.options import options_of, parse
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
