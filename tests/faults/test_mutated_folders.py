"""Run folders with any of their files changed at random: resumed as they were, or told in one sentence."""

# ruff: noqa: PT017  (a refusal is one of two good outcomes)

import json
import os
import random
import shutil
import signal
import warnings
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest
import torch

from hash3d.files import WriteError
from hash3d.tensors import all_finite
from hash3d.training.outputs import load_asset, read_reached
from hash3d.training.run import Run
from hash3d.training.run_folder import RunFolder, valid_lines

VALUES = (
    None, True, -1, 0, 10**23, -0.5, float("nan"), float("inf"), "", "x" * 5000, "../../etc", [], [[]], {},
    {"type": "Path"}, {"type": []}, {"type": "Mapping", "items": [[[], 1]]}, {"type": "os:system"},
)  # fmt: skip
SECONDS = 120


def mutate(plain, random):
    """Delete, replace or add one value of a JSON object anywhere."""
    places = []

    def collect(value):
        keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
        for key in keys:
            places.append((value, key))
            collect(value[key])

    collect(plain)
    owner, key = random.choice(places)
    change = random.randrange(len(VALUES) + 2)
    if change == len(VALUES):
        del owner[key]
    elif change > len(VALUES) and isinstance(owner, dict):
        owner[random.choice(("seed", "type", "unknown"))] = owner.pop(key)
    else:
        owner[key] = VALUES[change % len(VALUES)]


def read_mutated(folder, name, seed, tried):
    """Change a JSON file of a run; what is read of it is a recipe, or a sentence that names the file."""
    path, rng = folder / name, random.Random(seed)
    before = path.read_text()
    for _ in range(tried):
        plain = json.loads(before)
        mutate(plain, rng)
        path.write_text(json.dumps(plain))
        try:
            read_reached(folder)
        except ValueError as error:
            assert "\n" not in str(error)
            assert len(str(error)) < 800
    path.write_text(before)


@pytest.mark.parametrize("name", ["recipe.json", "summary.json"])
def test_a_mutated_file_is_read_or_told(folder, name):
    read_mutated(folder, name, seed=1, tried=50)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["recipe.json", "summary.json"])
def test_many_mutated_files_are_read_or_told(folder, name, record_property):
    """JSON files of a run folder with a value deleted, replaced or renamed: read."""
    read_mutated(folder, name, seed=2, tried=3000)
    record_property("tried", 3000)


@pytest.mark.nightly
def test_many_mutated_recipes_run_or_are_told(folder, record_property):
    """recipe.json with a value deleted, replaced or renamed: resumed."""
    path, rng = folder / "recipe.json", random.Random(3)
    before = path.read_text()
    for tried in range(1, 1001):
        plain = json.loads(before)
        mutate(plain, rng)
        path.write_text(json.dumps(plain))
        try:
            Run(RunFolder(folder).read_recipe(), folder, resume=True)
        except (ValueError, OSError) as error:
            assert "\n" not in str(error).strip()
        record_property("tried", tried)


def folder_of(path):
    return path.parents[path.parent.name == "checkpoint"]


def change_json(path, draw, mine):
    path = folder_of(path) / draw.choice(("recipe.json", "summary.json"))
    with suppress(ValueError, OSError):  # A change before may have left no JSON.
        plain = json.loads(path.read_text())
        mutate(plain, draw)
        path.write_text(json.dumps(plain))


def change_bytes(path, draw, mine):
    content = bytearray(path.read_bytes())
    for _ in range(draw.randint(1, 8)):
        content[draw.randrange(len(content))] = draw.randrange(256)
    path.write_bytes(content)


def cut(path, draw, mine):
    os.truncate(path, draw.randrange(path.stat().st_size))


def grow(path, draw, mine):
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 200)))


def remove(path, draw, mine):
    shutil.rmtree(path.parent) if path.parent.name == "checkpoint" else path.unlink()


def make_folder(path, draw, mine):
    path.unlink()
    path.mkdir()


def make_file(path, draw, mine):
    shutil.rmtree(folder_of(path) / "checkpoint", ignore_errors=True)
    (folder_of(path) / "checkpoint").write_text("")


def make_pipe(path, draw, mine):
    path.unlink()
    os.mkfifo(path)


def link(path, draw, mine):
    path.unlink()
    path.symlink_to(draw.choice((mine, mine.parent, path, mine.with_name("none"))))


def swap(path, draw, mine):
    other = draw.choice(files_of(folder_of(path)))
    path.write_bytes(other.read_bytes())


CHANGES = (change_json, change_bytes, cut, grow, remove, make_folder, make_file, make_pipe, link, swap)


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


@contextmanager
def within(seconds):
    def stop(*_):
        pytest.fail(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def try_one(folder, seed):
    draw, mine = random.Random(seed), folder.parent / "mine"
    mine.write_text("mine")
    done = []
    for _ in range(draw.randint(1, 2)):
        change, path = draw.choice(CHANGES), draw.choice(files_of(folder))
        done.append((change.__name__, path.name))
        change(path, draw, mine)
    with within(SECONDS):
        resume(folder, draw, done)
        read(folder, done)
    assert mine.read_text() == "mine", done


def resume(folder, draw, done):
    """Go on to six steps in a run of four, or be told."""
    told = []
    try:
        recipe = RunFolder(folder).read_recipe()
        if recipe.stage.steps == 4 and draw.random() < 0.5:
            recipe = replace(recipe, stage=replace(recipe.stage, steps=6))
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            run = Run(recipe, folder, resume=True)
        if recipe.steps > 10:
            return
        summary = run.execute()
    except (ValueError, OSError) as error:
        assert str(error).strip(), done
        assert "\n" not in str(error).strip(), done
        assert isinstance(error, (ValueError, WriteError)) or "Expected" in str(error), (error, done)
    else:
        assert summary["completed"], done
        rows = (folder / "metrics.jsonl").read_bytes() if (folder / "metrics.jsonl").exists() else b""
        assert valid_lines(rows) == rows, done
        lost = any("lacks steps" in str(each.message) for each in told)
        assert rows.count(b"\n") == recipe.steps or lost, done
        assert all_finite(run.trainer.scene.state_dict()), done
        assert not list(folder.rglob(".*.tmp.*")), done


def read(folder, done):
    """What export and evaluate do."""
    try:
        model, _ = load_asset(folder, torch.device("cpu"))
    except (ValueError, OSError) as error:
        assert "\n" not in str(error).strip(), done
    else:
        assert all_finite(model.state_dict()), done


def try_many(folder, seeds):
    """Yields after each seed, each with a fresh copy of the folder."""
    whole = shutil.copytree(folder, folder.with_name("whole"))
    for seed in seeds:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(whole, folder)
        try:
            try_one(folder, seed)
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        yield seed


@pytest.mark.filterwarnings("ignore")
def test_changed_folders(folder):
    assert len(list(try_many(folder, range(4)))) == 4


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_many_changed_folders(folder, record_property):
    """Run folders with files changed, cut, removed, swapped, linked, or turned into folders and pipes: resumed."""
    for seed in try_many(folder, range(500)):
        record_property("tried", seed + 1)
