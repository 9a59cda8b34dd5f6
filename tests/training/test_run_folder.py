"""A run on disk: what belongs to a checkpoint, and who may write. Damage is in `tests/faults/test_folders.py`."""

import json
from dataclasses import replace

import pytest
import torch

from hash3d.training.run_folder import RunFolder, identify, valid_lines, without_steps

CPU = torch.device("cpu")


@pytest.fixture
def folder(tiny_recipe, tmp_path):
    run = RunFolder(tmp_path / "run")
    run.create(tiny_recipe)
    return run


def steps_of(folder):
    return [json.loads(line)["step"] for line in folder.metrics.read_text().splitlines()]


def test_metrics_after_the_last_checkpoint_are_cut_when_a_run_goes_on(folder):
    for step in range(3):
        folder.append_metrics({"step": step})
    folder.save_checkpoint({"number": torch.tensor(3.0)}, "owner")
    for step in (3, 4):
        folder.append_metrics({"step": step})
    folder.flush_metrics()
    assert steps_of(folder) == [0, 1, 2, 3, 4]
    assert folder.load_checkpoint(CPU, "owner")["number"] == 3.0
    assert steps_of(folder) == [0, 1, 2]


def test_a_checkpoint_of_another_owner_is_refused(folder):
    assert folder.load_checkpoint(CPU, "owner") is None
    folder.save_checkpoint({}, "owner")
    with pytest.raises(ValueError, match="belongs to another recipe or input image"):
        folder.load_checkpoint(CPU, "somebody")


def test_a_checkpoint_of_other_priors_is_refused_and_one_that_does_not_say_goes_on(folder):
    folder.save_checkpoint({"priors": {"mine": "old"}}, "owner")
    content = folder.checkpoint.read_bytes(), folder.metrics.exists()
    with pytest.raises(ValueError, match=r"Expected mine as .* was started with.*\. Put the old ones back, or pass"):
        folder.load_checkpoint(CPU, "owner", {"mine": "new"})
    assert content == (folder.checkpoint.read_bytes(), folder.metrics.exists())
    assert folder.load_checkpoint(CPU, "owner", {"mine": "old"})["priors"] == {"mine": "old"}
    folder.save_checkpoint({}, "owner")
    assert folder.load_checkpoint(CPU, "owner", {"mine": "new"})


def test_one_writer_at_a_time(folder, tiny_recipe):
    other = RunFolder(folder.path)
    with pytest.raises(ValueError, match="Expected no other run in"):
        other.lock()
    folder.unlock()
    other.lock()
    other.unlock()
    with pytest.raises(FileExistsError, match=r"holds one\. Pass --resume"):
        other.create(tiny_recipe)


def test_a_recipe_comes_back_and_another_is_refused_but_for_its_steps(folder, tiny_recipe):
    assert folder.read_recipe() == tiny_recipe
    longer = replace(tiny_recipe, stage=replace(tiny_recipe.stage, steps=99), checkpoint_every=3)
    folder.check_same(longer)
    assert without_steps(longer) == without_steps(tiny_recipe)
    with pytest.raises(ValueError, match="they differ in seed: 5 against 0"):
        folder.check_same(replace(tiny_recipe, seed=5))


def test_a_digest_is_of_the_recipe_without_steps_and_of_the_pixels(tiny_recipe):
    longer = replace(tiny_recipe, stage=replace(tiny_recipe.stage, steps=99))
    assert identify(tiny_recipe, b"pixels") == identify(longer, b"pixels")
    assert (
        len({identify(each, image) for each in (tiny_recipe, replace(tiny_recipe, seed=5)) for image in (b"", b"x")})
        == 4
    )


@pytest.mark.parametrize(
    ("content", "kept"),
    [
        (b'{"step": 0}\n{"step": 1}\n', 2),
        (b'{"step": 3}\n{"step": 7}\n', 2),
        (b'{"step": 1}\n{"step": 1}\n', 1),
        (b'{"step": 1}\n{"step": Infinity}\n', 1),
        (b'{"step": 0}\n{"step": 1}', 1),
        (b'{"step": 0}\n[1]\n{"step": 2}\n', 1),
        (b"\xff\n", 0),
    ],
)
def test_lines_count_while_they_are_whole_and_in_order(content, kept):
    assert valid_lines(content) == b"".join(content.splitlines(keepends=True)[:kept])


def test_a_new_run_removes_what_a_killed_start_has_left(tiny_recipe, tmp_path):
    (tmp_path / ".recipe.json.abcd_123.tmp.json").write_text("half")
    RunFolder(tmp_path).create(tiny_recipe)
    assert [each.name for each in tmp_path.iterdir()] == ["recipe.json"]
