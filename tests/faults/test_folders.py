"""Run folders that were damaged, changed, shared or made by a stranger: each is told in one sentence, or resumed."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from hash3d.files import load_tensors
from hash3d.training.run import Run
from hash3d.training.run_folder import RunFolder


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"[" * 100_000, b"\xff\xfe", b'{"type": "Path"}', b" " * 2**25])
def test_a_recipe_of_anything_is_told(folder, content):
    (folder / "recipe.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"recipe\.json"):
        RunFolder(folder).read_recipe()


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


@pytest.mark.parametrize("name", ["metrics.jsonl", "input.png", "checkpoint/state.pt"])
def test_a_pipe_in_a_folder_is_refused(folder, recipe, name):
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=r"is a pipe or a device\. Remove it"):
        Run(recipe, folder, resume=True)


@pytest.mark.parametrize(
    ("name", "message"),
    [("metrics.jsonl", "to be a file, but it is a folder"), ("summary.json", "but got: it is no file")],
)
def test_a_folder_in_the_place_of_a_file_is_told(folder, recipe, name, message):
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        Run(recipe, folder, resume=True)


def test_metrics_shorter_damaged_or_missing_are_told_and_never_padded(folder):
    run = RunFolder(folder)
    owner = load_tensors(run.checkpoint, "cpu", sealed=True)["owner"]
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
            run.load_checkpoint(torch.device("cpu"), owner)
        kept = (folder / "metrics.jsonl").read_bytes() if (folder / "metrics.jsonl").exists() else b""
        assert set(kept.splitlines(keepends=True)) <= set(lines)
        assert content in (None, b"", *(path.read_bytes() for path in folder.glob("metrics-damaged*.jsonl")))
    assert len(list(folder.glob("metrics-damaged*.jsonl"))) == 5, "each is kept"
    (folder / "metrics.jsonl").write_bytes(whole + b'{"step": 4.0}\n')
    run.load_checkpoint(torch.device("cpu"), owner)
    assert (folder / "metrics.jsonl").read_bytes() == whole


def test_rows_after_lost_ones_stay(folder, recipe):
    (folder / "metrics.jsonl").write_bytes(b"")
    with pytest.warns(UserWarning, match="lacks steps"):
        Run(replace(recipe, stage=replace(recipe.stage, steps=6)), folder, resume=True).train()
    rows = (folder / "metrics.jsonl").read_bytes()
    assert [json.loads(line)["step"] for line in rows.splitlines()] == [4, 5]
    Run(RunFolder(folder).read_recipe(), folder, resume=True)
    assert (folder / "metrics.jsonl").read_bytes() == rows


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
    run.train()
    assert run.steps == 4


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


@pytest.mark.parametrize("change", ["moved", "replaced", "linked"])
def test_a_folder_that_changes_under_a_run_is_told_and_not_written(folder, recipe, tmp_path, change):
    def disturb(*_):
        moved = folder.rename(tmp_path / "moved")
        if change == "replaced":
            shutil.copytree(moved, folder)
        elif change == "linked":
            folder.symlink_to(shutil.copytree(moved, tmp_path / "other"))

    run = Run(replace(recipe, stage=replace(recipe.stage, steps=5)), folder, resume=True, progress=disturb)
    before = {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"was moved, replaced or deleted meanwhile\. Put it back"):
        run.execute()
    assert folder.exists() == (change != "moved")
    for each in tmp_path.iterdir():
        assert {path.name: path.read_bytes() for path in each.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("name", ["metrics.jsonl", "model.ply", "preview.png", "checkpoint"])
def test_a_person_s_file_is_not_written_over(recipe, tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds {name}"):
        Run(recipe, tmp_path)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.parametrize("name", ["-a b\n%s{}ünï", "x" * 200])
def test_odd_names_of_folders(recipe, tmp_path, name):
    recipe = replace(recipe, stage=replace(recipe.stage, steps=1))
    Run(recipe, tmp_path / name).train()
    assert Run(recipe, tmp_path / name, resume=True).completed
