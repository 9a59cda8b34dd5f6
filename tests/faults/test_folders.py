"""Run folders that were damaged, changed, shared or made by a stranger: each is told in one sentence, or resumed."""

import json
import random
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from hash3d.files import load_tensors, save_tensors
from hash3d.training.outputs import read_reached
from hash3d.training.run import Run
from hash3d.training.run_folder import RunFolder

VALUES = (
    None, True, -1, 0, 10**23, -0.5, float("nan"), float("inf"), "", "x" * 5000, "../../etc", [], [[]], {},
    {"type": "Path"}, {"type": []}, {"type": "Mapping", "items": [[[], 1]]}, {"type": "os:system"},
)  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return tmp_path_factory.mktemp("made") / "run"


@pytest.fixture
def recipe(tiny_recipe):
    return replace(tiny_recipe, stage=replace(tiny_recipe.stage, steps=4), checkpoint_every=2)


@pytest.fixture
def folder(made, recipe, tmp_path):
    """A finished run of four steps, copied."""
    if not made.exists():
        Run(recipe, made).execute()
    shutil.copytree(made, tmp_path / "run")
    return tmp_path / "run"


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


def resume_mutated(folder, name, seed, tried):
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
            assert "\n" not in str(error)  # noqa: PT017
            assert len(str(error)) < 800  # noqa: PT017
    path.write_text(before)


@pytest.mark.parametrize("name", ["recipe.json", "summary.json"])
def test_a_mutated_file_is_read_or_told(folder, name):
    resume_mutated(folder, name, seed=1, tried=50)


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["recipe.json", "summary.json"])
def test_many_mutated_files_are_read_or_told(folder, name, record_property):
    """JSON files of a run folder with a value deleted, replaced or renamed."""
    resume_mutated(folder, name, seed=2, tried=3000)
    record_property("tried", 3000)


@pytest.mark.nightly
def test_many_mutated_recipes_run_or_are_told(folder, record_property):
    """recipe.json with a value deleted, replaced or renamed, resumed."""
    path, rng = folder / "recipe.json", random.Random(3)
    before = path.read_text()
    for tried in range(1, 201):
        plain = json.loads(before)
        mutate(plain, rng)
        path.write_text(json.dumps(plain))
        try:
            recipe = RunFolder(folder).read_recipe()
            Run(recipe, folder, resume=True)
        except (ValueError, OSError) as error:
            assert "\n" not in str(error).strip()  # noqa: PT017
        record_property("tried", tried)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 100_000, b"\xff\xfe", b'{"type": "Path"}', b" " * 2**25])
def test_a_recipe_of_anything_is_told(folder, content):
    (folder / "recipe.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"recipe\.json"):
        RunFolder(folder).read_recipe()


def flip(path, position, bit):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def damage_checkpoint(folder, recipe, seed, tried):
    run, rng = RunFolder(folder), random.Random(seed)
    before = run.checkpoint.read_bytes()
    owner = torch.load(run.checkpoint, weights_only=True)["owner"]
    for each in range(tried):
        if each % 2:
            run.checkpoint.write_bytes(before[: rng.randrange(len(before))])
        else:
            flip(run.checkpoint, rng.randrange(len(before)), rng.randrange(8))
        with pytest.raises(ValueError, match=r"Expected a whole .*state\.pt.* Delete it"):
            run.load_checkpoint(torch.device("cpu"), owner)
        run.checkpoint.write_bytes(before)
    assert run.load_checkpoint(torch.device("cpu"), owner)["step"] == recipe.steps


def test_a_flipped_bit_or_a_cut_of_a_checkpoint_is_told(folder, recipe):
    damage_checkpoint(folder, recipe, seed=4, tried=40)


@pytest.mark.nightly
def test_many_flipped_bits_are_told(folder, recipe, record_property):
    """A bit of a checkpoint flipped, or its end cut off."""
    damage_checkpoint(folder, recipe, seed=5, tried=2000)
    record_property("tried", 2000)


def test_a_checkpoint_without_any_of_its_parts_is_told(folder, recipe):
    path = folder / "checkpoint" / "state.pt"
    state = load_tensors(path, "cpu", sealed=True)
    for key in [*state, "scene/model", "scene/optimizer", "cache/step"]:
        outer, _, inner = key.partition("/")
        changed = {name: value for name, value in state.items() if name != outer}
        if inner:
            changed[outer] = {name: value for name, value in state[outer].items() if name != inner}
        if key in ("not_finite", "other_caches"):
            continue  # Empty here, and nothing is read from them.
        save_tensors(path, changed)
        with pytest.raises(ValueError, match=r"it cannot be rebuilt|belongs to another"):
            Run(recipe, folder, resume=True)
    torch.save(state, path)
    with pytest.raises(ValueError, match="no digest"):
        Run(recipe, folder, resume=True)


def test_a_checkpoint_of_another_seed_is_told(folder, recipe, tmp_path):
    other = replace(recipe, seed=1)
    Run(other, tmp_path / "other").train()
    shutil.copy(tmp_path / "other/checkpoint/state.pt", folder / "checkpoint/state.pt")
    with pytest.raises(ValueError, match="belongs to another recipe or input image"):
        Run(recipe, folder, resume=True)


@pytest.mark.parametrize("name", ["metrics.jsonl", "recipe.json", "summary.json", "checkpoint", "checkpoint/state.pt"])
def test_a_link_in_a_folder_is_refused(folder, recipe, tmp_path, name):
    (folder / name).rename(tmp_path / "mine")
    (folder / name).symlink_to(tmp_path / "mine")
    with pytest.raises(ValueError, match="is a link"):
        Run(recipe, folder, resume=True)


def test_metrics_shorter_damaged_or_missing_are_told_and_never_padded(folder, recipe):
    whole = (folder / "metrics.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    for content in (
        whole[:-1],
        whole[:100],
        b"",
        b"\0" * len(whole),
        lines[0] + b"[]\n" + whole,
        lines[1] + whole,
        None,
    ):
        (folder / "metrics.jsonl").unlink(missing_ok=True)
        if content is not None:
            (folder / "metrics.jsonl").write_bytes(content)
        with pytest.warns(UserWarning, match="lacks steps of the checkpoint"):
            Run(recipe, folder, resume=True)
        kept = (folder / "metrics.jsonl").read_bytes() if (folder / "metrics.jsonl").exists() else b""
        assert whole.startswith(kept)
        assert kept.count(b"\n") == len(kept.splitlines())
        assert content in (None, b"") or (folder / "metrics-damaged.jsonl").read_bytes() == content
    (folder / "metrics.jsonl").write_bytes(whole + b'{"step": 4.0}\n')
    Run(recipe, folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == whole


def test_a_person_s_hard_linked_file_is_not_changed(folder, recipe, tmp_path):
    (tmp_path / "mine").write_bytes((folder / "metrics.jsonl").read_bytes() + b"mine\n")
    (folder / "metrics.jsonl").unlink()
    (folder / "metrics.jsonl").hardlink_to(tmp_path / "mine")
    Run(replace(recipe, stage=replace(recipe.stage, steps=6)), folder, resume=True).train()
    assert (tmp_path / "mine").read_bytes().endswith(b"mine\n")


def test_a_missing_checkpoint_starts_anew_and_says_so(folder, recipe):
    shutil.rmtree(folder / "checkpoint")
    with pytest.warns(UserWarning, match="has no checkpoint: the run starts anew"):
        run = Run(recipe, folder, resume=True)
    assert run.trainer.step_count == 0
    assert run.execute()["steps"] == 4


def test_hidden_files_of_a_person_stay(folder, recipe):
    mine = [folder / ".draft.tmp.txt", folder / "notes" / ".state.pt.abcdefgh.tmp.pt", folder / ".x.12345678.tmp.png"]
    (folder / "notes").mkdir()
    for each in mine:
        each.write_text("mine")
    (folder / ".sync.tmp").mkdir()
    ours = folder / "checkpoint" / ".state.pt.abcd_123.tmp.pt"
    ours.write_text("half")
    Run(recipe, folder, resume=True)
    assert all(each.read_text() == "mine" for each in mine)
    assert not ours.exists()


def test_more_steps_are_honoured_and_fewer_refused(folder, recipe):
    summary = Run(
        replace(recipe, stage=replace(recipe.stage, steps=6), checkpoint_every=1), folder, resume=True
    ).execute()
    assert (summary["steps"], summary["completed"]) == (6, True)
    assert (RunFolder(folder).read_recipe().steps, RunFolder(folder).read_recipe().checkpoint_every) == (6, 1)
    with pytest.raises(ValueError, match=r"\[4\] steps to go on from, but \[6\] are done"):
        Run(recipe, folder, resume=True)


def test_a_second_writer_is_refused_until_the_first_one_ends(folder, recipe):
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], 0), 2); print('locked', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(ValueError, match="one is writing it"):
            Run(recipe, folder, resume=True)
        holder.kill()
        holder.wait()
        first = Run(recipe, folder, resume=True)
    with pytest.raises(ValueError, match="one is writing it"):
        Run(recipe, folder, resume=True)
    first.execute()
    Run(recipe, folder, resume=True)


@pytest.mark.parametrize("name", ["metrics.jsonl", "model.ply", "preview.png", "checkpoint"])
def test_a_person_s_file_is_not_written_over(recipe, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds {name}"):
        Run(recipe, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["a b", "ünï", "new\nline", "-dash", "x" * 200, "%s{}"])
def test_odd_names_of_folders(recipe, tmp_path, name):
    Run(recipe, tmp_path / name).train()
    assert Run(recipe, tmp_path / name, resume=True).completed
