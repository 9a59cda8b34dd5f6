"""What the commands besides generate write: each operation fails once, in each way; told, and done when repeated."""

import json
import multiprocessing
import random
import shutil
import time
from multiprocessing.pool import ThreadPool

import pytest
import torch
import trimesh
from PIL import Image

from hash3d.cli import batch, host, main
from hash3d.table import runner
from hash3d.table.worker import Outcome
from tests.diffusion.test_convert import zero123  # noqa: F401  (a fixture)
from tests.faults.faulty_files import Killed, failing_at
from tests.faults.test_mutated_folders import mutate
from tests.faults.test_writes import CODES

TIMED = ("summary.json", "turntable.mp4", "batch.csv", "state.pt", "view.html", "metrics.jsonl")


@pytest.fixture
def objects(tmp_path, picture_file):
    """A folder with one object: its image and one true view."""
    cup = tmp_path / "objects" / "cup"
    cup.mkdir(parents=True)
    shutil.copy(picture_file, cup / "input.png")
    Image.new("RGBA", (32, 32), (200, 30, 30, 255)).save(cup / "000.png")
    view = {"file": "000.png", "elevation_deg": 0, "azimuth_deg": 0}
    described = {"distance": 1.5, "fov_y_deg": 49.1, "size": 32, "input": view, "views": [view]}
    (cup / "views.json").write_text(json.dumps(described))
    return cup.parent


@pytest.fixture
def quick(monkeypatch):
    """Runs of a table in a thread, of which only the recipe is made."""

    def attempt(job, machine):
        recipe = job.recipe()
        passes = {"full": 1, "shallow": 1, "single": 0, "cut": None, "prior": "none"}
        row = {
            **dict(zip(("object", "seed", "key"), job.identity, strict=True)), "system": recipe.system,
            "psnr": 20.0, "ssim": 0.5, "reuse_share": 0.5, "unets": {"image": passes}, "steps": recipe.steps,
            "pose": "stable", "seconds": {"total": 1.0}, **machine.account(),
        }  # fmt: skip
        return Outcome(job=job, row=row, strip=b"strip")

    monkeypatch.setattr(runner, "attempt", attempt)
    monkeypatch.setattr(host, "start_ray", lambda *_: ThreadPool(1))


@pytest.fixture
def prepare(request, tmp_path, capsys):
    """`prepare(name, out)`: a command that writes to `out`, to be called for its exit code and its messages."""

    def prepare(name, out):
        words = [str(word) for word in (name, *PREPARED[name](request.getfixturevalue, tmp_path, out))]

        def run():
            with pytest.raises(SystemExit) as exit_:
                main(words)
            said = capsys.readouterr().err.splitlines()
            return exit_.value.code, [line for line in said if line and line[:7] not in ("Writing", "UserWar")]

        return run

    return prepare


def prepare_evaluate(fixture, folder, out):
    if not out.exists():
        shutil.copytree(fixture("folder"), out)
    return out, "--truth", fixture("objects") / "cup"


def prepare_views(fixture, folder, out):
    trimesh.creation.box().export(folder / "box.obj")
    return folder / "box.obj", "--size", 16, "--out", out


def prepare_convert(fixture, folder, out):
    path, *_, weights = fixture("zero123")
    torch.save(weights, path)
    return path, "--out", out


def prepare_threestudio(fixture, folder, out):
    for file in ("launch.py", "threestudio/__init__.py", "configs/zero123.yaml"):
        (out / file).parent.mkdir(parents=True, exist_ok=True)
        (out / file).touch()
    return "install", out


def prepare_table(fixture, folder, out):
    fixture("quick")
    given = ("--objects", fixture("objects"), "--systems", "zero123_gs", "--scale", "mini", "--ray", "auto")
    return *given, "--cache", "off", "default", "--seeds", 0, "--out", out


def prepare_view(fixture, folder, out):
    if not out.exists():
        shutil.copytree(fixture("folder"), out)
        (out / "view.html").unlink()
    return out, "--no-browser"


def prepare_batch(fixture, folder, out):
    fixture("monkeypatch").setattr(batch, "oversee", lambda crew, _: bool(batch.work(crew)))
    (folder / "jobs.jsonl").write_text('{"prompt": "a mug", "steps": 2, "checkpoint-every": 1}')
    words = ("--prior", fixture("text_prior_folder"), "--scale", "mini")
    return folder / "jobs.jsonl", "--device", "cpu", "--out", out, "--", *words


PREPARED = {
    "batch": prepare_batch, "view": prepare_view,
    "evaluate": prepare_evaluate, "render-views": prepare_views, "convert": prepare_convert,
    "threestudio": prepare_threestudio, "table": prepare_table,
}  # fmt: skip


def contents(folder):
    """All files but what a kill may leave; of those that tell times their names."""
    found = [path for path in folder.rglob("[!.]*") if path.is_file() and ".claims" not in path.parts]
    return {path.relative_to(folder): path.name in TIMED or path.read_bytes() for path in found}


def fail_and_repeat(prepare, name, folder, number, code):
    """Whether operation `number` came; it fails, and the command repeated must end as one that nothing hit."""
    whole, out = folder / "whole", folder / str(number)
    if not whole.exists():
        assert prepare(name, whole)() == (0, [])
    run = prepare(name, out)
    with failing_at(number, code) as count:
        try:
            status, said = run()
        except Killed:
            pass
        else:
            hit = count[0] >= number
            tried_again = name == "batch" and status == 0  # A job is.
            assert (status, len(said)) == ((2, 1) if hit and not tried_again else (0, 0)), said
            assert not said or said[0].startswith("hash3d: Could not ")
            assert not list(out.rglob(".*.tmp*"))
    assert run() == (0, [])
    assert contents(out) == contents(whole)
    return count[0] >= number


@pytest.mark.parametrize(
    ("name", "number"),
    [("view", 3), ("evaluate", 3), ("render-views", 9), ("table", 6), ("threestudio", 2)],
)
def test_a_failing_write_is_told_and_the_command_repeated(prepare, tmp_path, name, number):
    assert fail_and_repeat(prepare, name, tmp_path, number, list(CODES.values())[number % len(CODES)])


@pytest.mark.nightly
@pytest.mark.parametrize("code", CODES)
@pytest.mark.parametrize("name", PREPARED)
def test_every_failing_write_is_told_and_the_command_repeated(prepare, tmp_path, name, code, record_property):
    """Write fails at operation n, for each n of the other commands that write."""
    if (name, code) == ("convert", "kill"):
        pytest.skip("A kill that is simulated removes the temporary folder: tests/diffusion/test_convert.py.")
    tried = 0
    while fail_and_repeat(prepare, name, tmp_path, tried + 1, CODES[code]):
        tried += 1
        record_property("tried", tried)
    assert tried > 5


def read_mutated(prepare, folder, seed, tried):
    """Change rows of a table: what is read of them is a table, or a sentence."""
    draw, rows, run = random.Random(seed), folder / "rows.jsonl", prepare("table", folder)
    assert run()[0] == 0
    before = rows.read_text().splitlines()
    for number in range(tried):
        plain = [json.loads(line) for line in before]
        mutate(plain, draw)
        text = "\n".join(json.dumps(row) for row in plain)
        rows.write_text(text[: -draw.choice((1, 9, 90))] if draw.random() < 0.3 else text + "\n")
        status, said = run()
        assert (status, len(said)) in ((0, 0), (2, 1)), (number, said)
        assert status == 0 or said[0].startswith(f"hash3d: Expected rows of runs in {rows}"), (number, said)


def test_changed_rows_of_a_table_are_read_or_told(prepare, tmp_path):
    read_mutated(prepare, tmp_path / "out", seed=1, tried=12)


@pytest.mark.nightly
def test_many_changed_rows_of_a_table_are_read_or_told(prepare, tmp_path, record_property):
    """rows.jsonl of a table with a value deleted, replaced or renamed, or a line cut off: gone on with."""
    read_mutated(prepare, tmp_path / "out", seed=2, tried=1000)
    record_property("tried", 1000)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("render-views", "box/input.png"),
        ("table", "table.md"),
        ("table", "views"),
        ("convert", "x"),
        ("batch", "sheet.jpg"),
    ],
)
def test_files_of_others_are_not_written_over(prepare, tmp_path, name, file):
    path = tmp_path / "out" / file
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    status, said = prepare(name, tmp_path / "out")()
    assert (status, len(said)) == (2, 1)
    assert said[0].startswith("hash3d: Expected ")
    assert [each.read_text() for each in (tmp_path / "out").rglob("*") if each.is_file()] == ["mine"]


def test_a_worker_that_is_killed_ends_the_table(prepare, monkeypatch, tmp_path):
    run, alive = prepare("table", tmp_path / "out"), iter([{1, 2}, {1, 3}])
    monkeypatch.setattr(runner, "attempt", lambda *_, **__: time.sleep(0.2))
    monkeypatch.setattr(runner, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(runner, "_list_workers", lambda: next(alive))
    status, said = run()
    assert (status, len(said)) == (2, 1)
    assert "one was killed" in said[0]


def test_a_batch_whose_worker_cannot_write_ends_with_one_sentence(tmp_path, capfd, monkeypatch):
    """Other workers would find the same: none takes its place."""
    (tmp_path / "jobs.txt").write_text("a red mug")
    (tmp_path / "out/.claims").mkdir(parents=True)
    (tmp_path / "out/.claims/a_red_mug.jsonl").symlink_to(tmp_path / "mine")
    monkeypatch.setattr("multiprocessing.get_context", lambda _: multiprocessing)
    with pytest.raises(SystemExit) as exit_:
        main(["batch", str(tmp_path / "jobs.txt"), "--device", "cpu", "--out", str(tmp_path / "out")])
    assert exit_.value.code == 2
    (said,) = capfd.readouterr().err.splitlines()
    assert "Replace the link by a file" in said


def test_a_changed_summary_is_shown_or_told(prepare, tmp_path):
    draw, run = random.Random(3), prepare("view", tmp_path / "out")
    before = (tmp_path / "out/summary.json").read_text()
    for number in range(10):
        plain = json.loads(before)
        mutate(plain, draw)
        (tmp_path / "out/summary.json").write_text(json.dumps(plain))
        status, said = run()
        assert (status, len(said)) in ((0, 0), (2, 1)), (number, said)
