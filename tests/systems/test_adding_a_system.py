"""The system, the representation and the guidance of docs/adding_a_system.md, taken from the page and run."""

import dataclasses
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from hash3d import Hash3DConfig
from hash3d.cli import generate, options
from hash3d.recipes.serialize import from_plain, to_plain
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.scenes.base import KINDS
from hash3d.schedules import constant
from hash3d.systems import SYSTEMS, SystemInfo
from hash3d.training.outputs import load_asset
from hash3d.training.run import Run
from tests.tiny_recipes import OFTEN, SURFACE, tiny

ROOT = Path(__file__).parents[2]
FILE, ROW, PYTHON, BALL, COLOR = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "docs" / "adding_a_system.md").read_text(), re.S | re.M
)


@pytest.fixture
def import_code(tmp_path, monkeypatch):
    """Import a file of the page under a name, for one test."""

    def import_as(name, code):
        path = tmp_path / f"{name}.py"
        path.write_text(code)
        spec = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return import_as


@pytest.fixture
def figurine(import_code, monkeypatch):
    """The page's system, as if it lay in hash3d/systems, and its row in the table."""
    module = import_code("hash3d.systems.figurine", FILE)
    monkeypatch.setattr(options, "SYSTEMS", (*SYSTEMS, eval(ROW, {"SystemInfo": SystemInfo})))
    return module


@pytest.fixture
def ball(import_code):
    """The page's representation, in a module outside the package."""
    module = import_code("a_ball", BALL)
    yield module
    del KINDS[module.BallConfig]


@pytest.fixture
def color(import_code):
    """The page's guidance, in a module outside the package."""
    return import_code("a_color", COLOR)


def ball_recipe(ball, recipe):
    """The recipe with the ball in place of the Gaussians."""
    renderer = VolumeRendererConfig(samples_per_ray=16)
    stage = dataclasses.replace(
        recipe.stage, representation=ball.BallConfig(), renderer=renderer, densify=None, surface=SURFACE
    )
    return dataclasses.replace(recipe, stage=stage)


def rows(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def check_run(recipe, path):
    """Train; then stop at step 6 and resume, which must give the same metrics. Returns the summary."""
    assert from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe
    summary = Run(recipe, path / "whole").execute()
    assert summary["completed"]
    assert all((path / "whole" / name).stat().st_size > 0 for name in summary["outputs"])

    class StopError(Exception):
        pass

    def stop(trainer, _):
        if trainer.step_count == 6:
            raise StopError

    with pytest.raises(StopError):
        Run(recipe, path / "stopped", progress=stop).train()
    resumed = Run(recipe, path / "stopped", resume=True)
    assert resumed.trainer.step_count == 4, "the last checkpoint"
    resumed.train()
    assert rows(path / "stopped") == rows(path / "whole")
    assert len(rows(path / "whole")) == recipe.steps
    return summary


@pytest.mark.parametrize("code", [FILE, BALL, COLOR], ids=["system", "representation", "guidance"])
def test_each_file_is_short_and_passes_the_linter(code):
    assert len([line for line in code.splitlines() if line.strip()]) < 60
    name = "src/hash3d/systems/figurine.py"
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--stdin-filename", name, "-"]
        done = subprocess.run(ruff, cwd=ROOT, input=code, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_tenth_system_is_none_of_the_nine(figurine):
    row = options.find_system("figurine")
    assert row.name == "figurine"
    assert (row.inputs, row.steps("mini"), row.steps("supplement")) == (("prompt",), (400, 40), (5000, 50))
    assert row.name not in {system.name for system in SYSTEMS}
    assert (row.inputs, row.representation) not in {(system.inputs, system.representation) for system in SYSTEMS}


def test_the_command_line_knows_it(figurine):
    given = generate.parse(["figurine", "--prompt", "a red mug", "--negative-prompt", "a photo", "--seed", "3"])
    recipe = generate.build_recipe(given)
    assert recipe == figurine.recipe(
        prompt="a red mug", negative_prompt="a photo", prior="mini-sd", cache=given.cache, seed=3, replay_every=3
    )
    with pytest.raises(ValueError, match="Unrecognized options: --image"):
        generate.parse(["figurine", "--image", "photo.png"])


def test_from_python_it_needs_no_row(figurine, monkeypatch):
    runs = []
    monkeypatch.setattr("hash3d.training.run.Run", lambda *given: SimpleNamespace(execute=lambda: runs.append(given)))
    exec(PYTHON, {"figurine": figurine})
    recipe = figurine.recipe(prompt="a red mug", prior="mini-sd", cache=Hash3DConfig())
    assert runs == [(recipe, Path("outputs/mug"))]


def test_a_system_runs_through_the_one_loop(figurine, text_prior_folder, tmp_path):
    recipe = figurine.recipe(prompt="a red mug", prior=str(text_prior_folder), cache=OFTEN, scale="mini", steps=11)
    summary = check_run(dataclasses.replace(tiny(recipe), checkpoint_every=4), tmp_path)
    assert summary["system"] == "figurine"
    assert [stage["steps"] for stage in summary["stages"]] == [10, 1]
    assert {"model.pt", "model.glb", "preview.png", "turntable.mp4"} <= set(summary["outputs"])
    assert all(stage["unet"]["reuse_share"] > 0 for stage in summary["stages"])


def test_a_representation_from_outside_runs_through_the_one_loop(ball, tiny_recipe, tmp_path):
    recipe = ball_recipe(ball, tiny_recipe)
    summary = check_run(recipe, tmp_path)
    shown = ["preview.png", "preview_lit.png", "turntable.mp4", "view.html"]
    assert summary["outputs"] == ["model.pt", "model.glb", *shown]
    model, _ = load_asset(tmp_path / "whole", torch.device("cpu"))
    assert isinstance(model, ball.Ball)
    assert float(model.size.detach()) != ball.BallConfig().size, "it has learned"
    series = [row["loss_color"] for row in rows(tmp_path / "whole")]
    assert series[-1] < series[0]


def test_a_guidance_from_outside_joins_another(color, tiny_recipe, tmp_path):
    stage = tiny_recipe.stage
    config = color.ColorGuidanceConfig()
    losses = dataclasses.replace(stage.losses, guidances={**stage.losses.guidances, "color": constant(10.0)})
    stage = dataclasses.replace(stage, guidances={**stage.guidances, "color": config}, losses=losses)
    summary = check_run(dataclasses.replace(tiny_recipe, stage=stage), tmp_path)
    found = rows(tmp_path / "whole")
    assert all(row["loss_color_guidance"] > 0 for row in found)
    assert [row["loss"] for row in found] == pytest.approx(
        [sum(value for name, value in row.items() if name.startswith("loss_")) for row in found]
    )
    (counted,) = summary["stages"]
    assert counted["color_unet"]["full"] == counted["color_unet"]["shallow"] == 0
    assert counted["unet"]["full"] + counted["unet"]["shallow"] == 12


def test_a_run_needs_no_diffusion_model(ball, color, tiny_text_recipe, tmp_path):
    """A representation and a guidance from outside alone: views take on the colour."""
    recipe = ball_recipe(ball, tiny_text_recipe)
    config = color.ColorGuidanceConfig(color=(0.1, 0.1, 0.9))
    losses = dataclasses.replace(
        recipe.stage.losses, guidances={"color": constant(1.0)}, scale=constant(0.0), opaque=constant(0.0)
    )
    stage = dataclasses.replace(recipe.stage, guidances={"color": config}, losses=losses)
    check_run(dataclasses.replace(recipe, stage=stage, priors={}), tmp_path)
    series = [row["loss_guidance"] for row in rows(tmp_path / "whole")]
    assert series[-1] < series[0]


def test_a_recipe_of_a_module_that_is_not_imported_is_refused(ball, tiny_recipe, monkeypatch):
    plain = json.loads(json.dumps(to_plain(ball_recipe(ball, tiny_recipe))))
    monkeypatch.delitem(sys.modules, "a_ball")
    with pytest.raises(ValueError, match=r"but a_ball:BallConfig is not imported\. Import a_ball first\.$"):
        from_plain(plain)
    assert "a_ball" not in sys.modules
