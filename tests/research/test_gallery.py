"""The gallery's page, of run folders that were not run."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hash3d.cache import PRESETS
from hash3d.cli.generate import build_recipe, parse
from hash3d.systems import SYSTEMS
from hash3d.training.run_folder import RunFolder
from research.benchmarks import gallery as gallery_module

ROOT = Path(__file__).parents[2]
SIDE = 24
COLORS = {"off": (255, 0, 0), "on": (0, 0, 255)}


def finish(gallery, runs, name, cache, *, completed=True, changes=()):
    """A folder as a run leaves it; off is red, on blue, and takes half the time."""
    folder = runs / f"{name}-{cache}"
    command, system, *options = gallery.generate_command(folder, name, cache)
    assert (command, system) == ("generate", name)
    recipe = dataclasses.replace(build_recipe(parse([name, *options])), **dict(changes))
    RunFolder(folder).create(recipe)
    columns = 9 if recipe.image else 8
    Image.new("RGB", (columns * SIDE, SIDE), COLORS[cache]).save(folder / "preview.png")
    (folder / "model.ply").write_bytes(bytes(1_500_000))
    share = 1.0 if cache == "off" else 0.5
    RunFolder(folder).write_summary(
        {
            "system": name,
            "device": "cpu",
            "completed": completed,
            "seconds": {"total": 80 * share, "unet": 60 * share, "render": 11.0},
            "unet": {"reuse_share": 1.5 * (1 - share)},
            "stages": [{"steps": stage.steps, "scene": {"gaussians": 3000}} for stage in recipe.stages],
            "peak_memory_bytes": 1_234_000_000,
            "outputs": ["model.ply", "preview.png", "turntable.mp4"],
        }
    )
    return folder


@pytest.fixture
def gallery():
    return gallery_module


@pytest.fixture
def runs(gallery, tmp_path):
    for name in ("zero123_gs", "magic3d"):
        for cache in gallery.CACHES:
            finish(gallery, tmp_path / "runs", name, cache)
    return tmp_path / "runs"


def test_the_page_shows_pictures_and_summaries(gallery, runs, tmp_path):
    out = tmp_path / "gallery"
    (runs / "magic3d-on" / gallery.MADE).write_text(
        '{"hardware": "7 cores", "threads": 2, "commit": "abc", "date": "2030-01-02"}'
    )
    gallery.write_page(out, runs, ["zero123_gs", "sds_gs", "magic3d"], command="python gallery.py")
    page = (out / "README.md").read_text()
    assert "`python gallery.py`: device cpu, 7 cores, 2 threads a run" in page
    assert "commit abc; 2030-01-02." in page
    assert "Not finished: sds_gs." in page
    assert "| [zero123_gs](#zero123_gs) | 80 | 40 | 60 | 30 | 75% |" in page
    assert "From `burger.png`; mini-zero123." in page
    assert 'From "a red mushroom"; mini-sd.' in page
    assert "| off | 300 | 80 | 60 | 11 | 0% | 1.2 GB | 3,000 gaussians | model.ply 1.5 MB |" in page
    assert "| on | 300 | 40 | 30 | 11 | 75% | 1.2 GB | 3,000 gaussians | model.ply 1.5 MB |" in page
    assert page.count("3,000 gaussians then 3,000 gaussians") == 2
    for name, columns in (("zero123_gs", 9), ("magic3d", 8)):
        assert f"]({name}.jpg)" in page
        picture = np.asarray(Image.open(out / f"{name}.jpg")).astype(int)
        height = round(gallery.WIDTH / columns)
        assert picture.shape == (2 * height, gallery.WIDTH, 3)
        for row, cache in enumerate(gallery.CACHES):
            strip = picture[row * height + 8 : (row + 1) * height - 8]
            assert abs(strip - np.array(COLORS[cache])).max() < 8
        assert (out / f"{name}.jpg").stat().st_size < 100_000


def test_what_is_written_by_hand_stays(gallery, runs, tmp_path):
    for text in ("", "\nThe mug has no bottom.\n"):
        page = tmp_path / "gallery" / "README.md"
        if text:
            page.write_text(page.read_text() + text)
        gallery.write_page(tmp_path / "gallery", runs, ["magic3d"], command="again")
    assert page.read_text().endswith("The mug has no bottom.\n")
    assert page.read_text().count("## magic3d") == 1


def test_runs_that_differ_in_more_than_the_cache_are_refused(gallery, runs, tmp_path):
    finish(gallery, runs, "sds_gs", "off", changes={"seed": 1})
    finish(gallery, runs, "sds_gs", "on")
    with pytest.raises(ValueError, match="differ in seed: 0 against 1"):
        gallery.write_page(tmp_path / "gallery", runs, ["sds_gs"], command="")
    finish(gallery, runs, "latent_nerf", "off", changes={"cache": PRESETS["default"]})
    finish(gallery, runs, "latent_nerf", "on")
    with pytest.raises(ValueError, match="latent_nerf-off without a cache"):
        gallery.write_page(tmp_path / "gallery", runs, ["latent_nerf"], command="")
    with pytest.raises(ValueError, match="no system has both"):
        gallery.write_page(tmp_path / "gallery", tmp_path, ["sds_gs"], command="")


def test_only_what_is_not_done_is_run(gallery, runs, tmp_path, monkeypatch, capsys):
    """What is done is skipped, what has begun goes on, and a failure is told after the rest has run."""
    finish(gallery, runs, "sds_gs", "off", completed=False)
    called = []

    class Done:
        def __init__(self, code):
            self.returncode = code

    def call(command, env):
        called.append(command[3:])
        assert (env["OMP_NUM_THREADS"], env["NUMBA_NUM_THREADS"]) == ("3", "3")
        return Done(0 if "--resume" in command else 2)

    monkeypatch.setattr(gallery.subprocess, "run", call)
    arguments = ["--runs", str(runs), "--out", str(tmp_path / "gallery"), "--threads", "3", "--commit", "abc"]
    monkeypatch.setattr(sys, "argv", ["gallery.py", *arguments, "--systems", "zero123_gs", "sds_gs"])
    assert gallery.main() == 1
    prompt = ["--prompt", "a red mug with a blue handle"]
    assert called == [
        ["generate", "sds_gs", "--out", str(runs / "sds_gs-off"), "--resume"],
        ["generate", "sds_gs", *prompt, "--out", str(runs / "sds_gs-on"), "--replay-every", "0"],
    ]
    assert "Expected sds_gs-on to finish" in capsys.readouterr().err
    assert (runs / "sds_gs-off" / gallery.MADE).exists()
    assert not (runs / "sds_gs-on" / gallery.MADE).exists()


def test_a_run_of_an_earlier_recipe_is_not_shown_as_today_s(gallery, tmp_path):
    for completed, name in ((True, "dreamfusion"), (False, "sds_gs")):
        finish(gallery, tmp_path, name, "on", completed=completed, changes={"reference_elevation": 7.0})
        with pytest.raises(ValueError, match=r"reference_elevation: 15.0 against 7.0. Delete the folder"):
            gallery.run(tmp_path, name, "on", {})


def test_every_system_has_an_input_that_its_command_takes(gallery, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert set(gallery.INPUTS) <= {system.name for system in SYSTEMS}
    for name in (system.name for system in SYSTEMS):
        for cache in gallery.CACHES:
            options = gallery.generate_command(Path("runs"), name, cache)[1:]
            recipe = build_recipe(parse(options))
            assert (recipe.system, recipe.cache is None) == (name, cache == "off")
            assert recipe.image is None or recipe.image.is_file()
