"""Checkpoints that are damaged, lack a part or hold another value: each is told in one sentence, or resumed."""

import json
import math
import random
import shutil
from dataclasses import replace

import pytest
import torch

from hash3d.files import load_tensors, save_tensors
from hash3d.tensors import all_finite
from hash3d.training.run import Run
from hash3d.training.run_folder import RunFolder


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


def test_a_checkpoint_without_some_of_its_parts_is_told(folder, recipe):
    leave_out(folder, recipe, ["stage", "owner", "scene/optimizer", "cache/storage"])
    path = folder / "checkpoint" / "state.pt"
    torch.save(load_tensors(path, "cpu", sealed=True), path)
    with pytest.raises(ValueError, match="no digest"):
        Run(recipe, folder, resume=True)


@pytest.mark.nightly
def test_a_checkpoint_without_any_of_its_parts_is_told(folder, recipe, record_property):
    """A checkpoint without one of its parts."""
    state = load_tensors(folder / "checkpoint" / "state.pt", "cpu", sealed=True)
    inner = [f"{outer}/{name}" for outer in ("scene", "cache", "generators") for name in state[outer]]
    names = [*state, *inner]
    for name in ("not_finite", "other_caches", "priors", "cache/branches"):  # Empty here, or new: others go on.
        names.remove(name)
    leave_out(folder, recipe, names)
    record_property("tried", len(names))


def leave_out(folder, recipe, names):
    path = folder / "checkpoint" / "state.pt"
    state = load_tensors(path, "cpu", sealed=True)
    for name in names:
        outer, _, inner = name.partition("/")
        changed = {key: value for key, value in state.items() if key != outer}
        if inner:
            assert inner in state[outer]
            changed[outer] = {key: value for key, value in state[outer].items() if key != inner}
        save_tensors(path, changed)
        try:
            Run(recipe, folder, resume=True)
        except ValueError as error:
            assert "it cannot be rebuilt" in str(error) or "belongs to another" in str(error)  # noqa: PT017
        else:
            pytest.fail(f"a checkpoint without {name} was believed")
    save_tensors(path, state)


def places(value, path=()):
    """The paths to all values in a state; of a list the first ones."""
    if not isinstance(value, (dict, list, tuple)):
        return
    for key in value if isinstance(value, dict) else range(min(len(value), 3)):
        yield (*path, key)
        yield from places(value[key], (*path, key))


def put(state, path, value):
    """A copy of a state with another value at a path."""
    if not path:
        return value
    if isinstance(state, dict):
        return {**state, path[0]: put(state[path[0]], path[1:], value)}
    return type(state)(put(each, path[1:], value) if key == path[0] else each for key, each in enumerate(state))


def resume_changed(folder, recipe, path, value):
    """Go on from a checkpoint with another value at a path. Returns the sentence by which it is refused, or None."""
    whole = load_tensors(folder / "checkpoint/state.pt", "cpu", sealed=True)
    recipe = replace(recipe, stage=replace(recipe.stage, steps=6))
    copy = folder.with_name("changed")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    save_tensors(copy / "checkpoint/state.pt", put(whole, path, value))
    try:
        run = Run(recipe, copy, resume=True)
        run.train()
    except (ValueError, OSError) as error:
        assert "\n" not in str(error)  # noqa: PT017
        return str(error)
    assert all_finite(run.trainer.scene.state_dict())
    assert run.steps == 6
    json.dumps(run.summary([]))
    return None


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("scene", "optimizer", "state", 0, "step"), -1), (("scene", "densifier", "total"), torch.zeros(2)),
        (("step",), -1), (("finished",), [1]), (("cache", "statistics", "lookups"), "x"),
        (("cache", "statistics", "gaps"), 1), (("cache", "guard", "hits"), None),
        (("seconds", "unet"), torch.zeros(2)), (("cache", "storage", "entries", 1, "place", 1, 0), torch.zeros(2)),
        (("cache", "storage", "entries", 0, "step"), "x"), (("cache", "storage", "entries", 0, "feature"), 1),
        (("view_order", "episodes", 0), [[[9, 9, 9, 9]], 2]), (("view_order", "episodes", 0, 0, 0, 1), 99),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_told(folder, recipe, path, value):
    assert resume_changed(folder, recipe, path, value).startswith("Expected ")


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_many_changed_values_are_believed_or_told(folder, recipe, record_property):
    """A checkpoint with a value of another type or size, and a digest that is right: resumed and trained."""
    draw = random.Random(6)
    found = list(places(load_tensors(folder / "checkpoint/state.pt", "cpu", sealed=True)))
    wrong = []
    for tried in range(1, 501):
        path = draw.choice(found)
        value = draw.choice((None, "x", -1, 10**15, 0.5, math.nan, [], {}, [1], torch.zeros(2), torch.zeros(2).bool()))
        try:
            resume_changed(folder, recipe, path, value)
        except Exception as error:
            wrong.append(f"{path}: {value}: {error!r}")
        record_property("tried", tried)
    assert not wrong, "\n".join(wrong)
