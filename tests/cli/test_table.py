"""`hash3d table`: its runs, its tables, and going on after a kill."""

import json
import shutil
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest
from PIL import Image

from hash3d.cli import host, table, table_jobs
from hash3d.cli.table import Table, apply_preset
from hash3d.table import runner
from hash3d.table.runner import Rows
from hash3d.table.worker import Outcome

from .conftest import assert_refused


@pytest.fixture
def cup(tmp_path, picture_file):
    """A folder with one object: its image and one true view."""
    folder = tmp_path / "objects" / "cup"
    folder.mkdir(parents=True)
    shutil.copy(picture_file, folder / "input.png")
    view = Image.new("RGBA", (32, 32))
    view.paste((200, 30, 30, 255), (8, 8, 24, 24))
    view.save(folder / "000.png")
    view = {"file": "000.png", "elevation_deg": 0, "azimuth_deg": 0}
    described = {"distance": 1.5, "fov_y_deg": 49.1, "size": 32, "input": view, "views": [view]}
    (folder / "views.json").write_text(json.dumps(described))
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Runs in this process with --ray, which only look at their recipe."""

    def run(job, machine):
        recipe = job.recipe()
        passes = {"full": recipe.steps, "shallow": 0, "single": 0, "cut": None, "prior": "none"}
        row = {
            **dict(zip(("object", "seed", "key"), job.identity, strict=True)), "system": recipe.system,
            "psnr": 20.0 + recipe.seed % 7 - bool(recipe.stage.replay), "reuse_share": 0.0, "unets": {"image": passes},
            "steps": recipe.steps, "pose": "stable", "seconds": {"total": 1.0}, **machine.account(),
        }  # fmt: skip
        return Outcome(job=job, row=row, strip=b"views")

    monkeypatch.setattr(runner, "attempt", run)
    monkeypatch.setattr(host, "start_ray", lambda *_: ThreadPool(1))


def test_a_table_that_was_killed_goes_on_and_ends_the_same(hash3d, quick, cup, prior_folder, tmp_path, monkeypatch):
    words = ["table", "--objects", cup.parent, "--systems", "zero123_gs", "--prior", prior_folder, "--scale", "mini"]
    words += ["--steps", 4, "--seeds", 0, 1, "--cache", "off", "replay", "--threads", 1, "--ray", "auto", "--out"]
    code, out, err = hash3d(*words, tmp_path / "whole")
    assert code == 0, err + out
    whole = Rows(tmp_path / "whole").read()
    assert [(row["seed"], row["steps"]) for row in whole] == [(0, 4), (0, 4), (1, 4), (1, 4)]
    assert out.count("zero123_gs: ") == 4

    def kill(line):
        if line.startswith("2/4"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(table, "say", kill)
        assert hash3d(*words, tmp_path / "killed")[0] == 130
    rows = Rows(tmp_path / "killed")
    assert len(rows.read()) == 2
    with rows.path.open("a") as file:
        file.write('{"object": "cup", "se')
    code, out, err = hash3d(*words, tmp_path / "killed")
    assert code == 0, err + out
    assert rows.read() == whole
    assert (tmp_path / "killed" / "table.csv").read_text() == (tmp_path / "whole" / "table.csv").read_text()
    page = (tmp_path / "killed" / "table.md").read_text()
    assert page.startswith("# 4 of 4 runs\n")
    assert "| zero123_gs | replay | 2 |" in page
    assert "![" not in page


def test_smoke_is_one_pair_at_full_scale_with_named_weights():
    options = apply_preset(Table(out=Path(), preset="smoke"))
    assert (options.systems, options.cache, options.seeds) == (("zero123_gs", "sds_gs"), ("off", "default"), (0,))
    assert (options.prior, options.text_prior) == (table.STABLE_ZERO123, table.STABLE_DIFFUSION_21)
    jobs = table_jobs.list_jobs(options)
    assert [(job.study, job.label, job.input.prompt) for job in jobs] == [
        ("sds_gs", "off", "a red mug"), ("sds_gs", "default", "a red mug"),
    ]  # fmt: skip
    off, on = (job.recipe() for job in jobs)
    assert (off.priors["text"], off.cache, on.cache.cut, on.steps) == (table.STABLE_DIFFUSION_21, None, -2, 300)
    assert apply_preset(Table(out=Path())) == Table(out=Path())
    given = apply_preset(Table(out=Path(), preset="smoke", prior="mine", steps=5, systems=("dreamfusion",)))
    assert (given.prior, given.steps, given.systems) == ("mine", 5, ("dreamfusion",))


def test_a_page_of_smoke_shows_the_pictures(quick, cup, prior_folder, tmp_path, hash3d):
    words = ["table", "--preset", "smoke", "--objects", cup.parent, "--prior", prior_folder, "--scale", "mini"]
    code, out, err = hash3d(*words, "--systems", "zero123_gs", "--steps", 1, "--ray", "auto", "--out", tmp_path)
    assert code == 0, err + out
    page = (tmp_path / "table.md").read_text()
    assert page.count("![zero123_gs, ") == 2
    for line in page.splitlines():
        if line.startswith("!["):
            assert (tmp_path / line.partition("](")[2][:-1]).is_file()
    assert "(pose: stable); steps 1." in page


def test_nothing_to_run_is_told(hash3d, tmp_path):
    assert_refused(hash3d("table", "--out", tmp_path), "Expected --objects FOLDER or --prompts FILE")
    assert_refused(hash3d("table", "--out", tmp_path, "--systems", "zero"), "Expected a system")
