"""What runs start from: names, prompts, seeds."""

import json

import pytest
from PIL import Image

from hash3d.table.objects import InputObject, expect_names, find_objects, read_prompts


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "blue_cup").mkdir()
    for path in (tmp_path / "blue_cup" / "input.png", tmp_path / "disc.png"):
        Image.new("RGBA", (8, 8)).save(path)
    (tmp_path / "notes.txt").write_text("no picture")
    return tmp_path


def test_objects_are_folders_and_pictures(folder):
    cup, disc = find_objects(folder)
    assert (cup.name, cup.image, cup.truth) == ("blue_cup", folder / "blue_cup" / "input.png", None)
    assert (disc.name, disc.image, disc.placed) == ("disc", folder / "disc.png", {})
    assert find_objects(folder / "disc.png") == [disc]
    for name in ("hat.jpg", "mug.PNG"):
        Image.new("RGB", (8, 8)).save(folder / name)
    assert [item.name for item in find_objects(folder)] == ["blue_cup", "disc", "hat", "mug"]
    assert cup.prompt == "blue cup"
    (folder / "blue_cup" / "prompt.txt").write_text("a cup of tea\n")
    assert cup.prompt == "a cup of tea"


def test_true_views_tell_the_elevation(folder):
    Image.new("RGBA", (16, 16)).save(folder / "blue_cup" / "000.png")
    view = {"file": "000.png", "elevation_deg": 0, "azimuth_deg": 0}
    described = {
        "distance": 1.5,
        "fov_y_deg": 49.1,
        "size": 16,
        "input": {**view, "elevation_deg": 25},
        "views": [view],
    }
    (folder / "blue_cup" / "views.json").write_text(json.dumps(described))
    cup = find_objects(folder)[0]
    assert (cup.truth, cup.placed) == (folder / "blue_cup", {"elevation": 25.0})


def test_prompts_are_lines(tmp_path):
    (tmp_path / "prompts.txt").write_text("# ours\na red mug\n\n  a blue hat \na red mug\n")
    mug, hat = read_prompts(tmp_path / "prompts.txt")
    assert (mug.name, mug.prompt, mug.image, mug.truth) == ("a_red_mug", "a red mug", None, None)
    assert hat.text == "a blue hat"
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="it holds none"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="there is no file"):
        read_prompts(tmp_path / "missing.txt")


@pytest.mark.parametrize("texts", [("a red mug", "a red mug!"), ("a" * 61, "a" * 62)])
def test_inputs_of_one_name_are_refused(texts):
    inputs = [InputObject(text=text) for text in ("a blue hat", *texts)]
    with pytest.raises(ValueError, match="Expected inputs of different names"):
        expect_names(inputs)
    expect_names(inputs[:2])


def test_inputs_have_seeds_of_their_own():
    mug, hat = InputObject(text="a red mug"), InputObject(text="a blue hat")
    assert mug.seed(1) - mug.seed(0) == 1000
    assert mug.seed(0) != hat.seed(0)
    assert mug.seed(0) == InputObject(text="a red mug").seed(0) < 1000
