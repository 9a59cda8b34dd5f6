"""The tenth system of docs/adding_a_system.md, taken from the page and run."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hash3d.cli import generate
from hash3d.recipes.serialize import from_plain, to_plain
from hash3d.systems import SYSTEMS, SystemInfo
from hash3d.training.run import Run
from tests.conftest import OFTEN
from tests.tiny_recipes import tiny

ROOT = Path(__file__).parents[2]
FILE, ROW = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "adding_a_system.md").read_text(), re.S | re.M)


@pytest.fixture
def figurine(tmp_path, monkeypatch):
    """The page's module, as if it lay in hash3d/systems, and its row in the table."""
    path = tmp_path / "figurine.py"
    path.write_text(FILE)
    spec = importlib.util.spec_from_file_location("hash3d.systems.figurine", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    row = eval(ROW, {"SystemInfo": SystemInfo})
    monkeypatch.setattr(generate, "SYSTEMS", (*SYSTEMS, row))
    return module


def test_the_file_is_short_and_passes_the_linter():
    assert len(FILE.splitlines()) < 100
    name = "src/hash3d/systems/figurine.py"
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--no-cache", "--stdin-filename", name, "-"]
        done = subprocess.run(ruff, cwd=ROOT, input=FILE, text=True, capture_output=True)
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_tenth_system_is_none_of_the_nine(figurine):
    row = generate.find_system("figurine")
    assert row.name == figurine.NAME
    assert (row.inputs, row.steps("mini"), row.steps("supplement")) == (("prompt",), (400, 40), (400, 40))
    assert row.name not in {system.name for system in SYSTEMS}
    assert (row.inputs, row.representation) not in {(system.inputs, system.representation) for system in SYSTEMS}


def test_the_command_line_knows_it(figurine):
    options = generate.parse(["figurine", "--prompt", "a red mug", "--negative-prompt", "a photo", "--seed", "3"])
    recipe = generate.build_recipe(options)
    assert recipe == figurine.recipe(
        prompt="a red mug", negative_prompt="a photo", prior="mini-sd", cache=options.cache, seed=3
    )
    with pytest.raises(ValueError, match="figurine starts from a text"):
        generate.build_recipe(generate.parse(["figurine", "--image", "photo.png"]))


def test_it_runs_through_the_one_loop(figurine, text_prior_folder, tmp_path):
    recipe = figurine.recipe(prompt="a red mug", prior=str(text_prior_folder), cache=OFTEN, scale="mini", steps=11)
    recipe = tiny(recipe)
    assert from_plain(json.loads(json.dumps(to_plain(recipe)))) == recipe
    summary = Run(recipe, tmp_path / "run").execute()
    assert (summary["system"], summary["completed"]) == ("figurine", True)
    assert [stage["steps"] for stage in summary["stages"]] == [10, 1]
    assert {"model.pt", "model.glb", "preview.png", "turntable.mp4"} <= set(summary["outputs"])
    assert all(stage["unet"]["reuse_share"] > 0 for stage in summary["stages"])
