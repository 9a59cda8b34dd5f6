"""What runs start from: names, prompts, seeds."""

import json
import re

import pytest
from PIL import Image

from hash3d import __version__
from hash3d.systems import zero123_gs
from hash3d.table.objects import InputObject, all_of, describe_machine, find_objects, key_of, provenance, read_prompts


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "blue_cup").mkdir()
    for path in (tmp_path / "blue_cup" / "input.png", tmp_path / "disc.png", tmp_path / ".hidden.png"):
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
    assert [item.name for item in find_objects(folder)] == ["blue_cup", "disc", "hat.jpg", "mug.PNG"]
    assert cup.prompt == "blue cup"
    (folder / "blue_cup" / "prompt.txt").write_text("a cup of tea\n")
    assert cup.prompt == "a cup of tea"


def test_every_picture_that_is_read_is_an_object_with_a_name_of_its_own(folder):
    for name in ("blue_cup.png", "disc.JPG", "disc.webp", "v1.2.tif", "disc.xcf"):
        (folder / name).touch()
    objects = find_objects(folder)
    assert [item.name for item in objects] == ["blue_cup", "blue_cup.png", "disc.JPG", "disc", "disc.webp", "v1.2.tif"]
    assert [item.prompt for item in objects] == ["blue cup", "blue cup", "disc", "disc", "disc", "v1.2"]


def test_a_row_is_of_what_the_files_hold_and_not_of_where_they_lie(folder, tmp_path):
    def key(image, *, prior="mini", truth=None):
        return key_of(zero123_gs.recipe(image=image, prior=str(tmp_path / prior), scale="mini", cache=None), truth)

    for name, weights in (("mini", "some"), ("moved", "some"), ("others", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text(weights)
    cup = folder / "blue_cup"
    before = key(cup / "input.png", truth=cup)
    assert before == key(folder / "disc.png", prior="moved", truth=cup)
    assert before != key(cup / "input.png", prior="others", truth=cup)
    (cup / "000.png").write_text("another view")
    assert before != key(cup / "input.png", truth=cup)
    before = key(cup / "input.png")
    (cup / "input.png").write_text("another picture")
    assert before != key(cup / "input.png")


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
    text = "# ours\na red mug\n\n  a blue hat \na red mug\n"
    (tmp_path / "prompts.txt").write_text(text, encoding="utf-8-sig")  # As Windows' editors do.
    mug, hat = read_prompts(tmp_path / "prompts.txt")
    assert (mug.name, mug.prompt, mug.image, mug.truth) == ("a_red_mug", "a red mug", None, None)
    assert hat.text == "a blue hat"
    long = "a very long sentence that goes on and on, of a mug and what it holds"
    texts = ("a red mug", "a red mug!", "a red, mug", "a_red_mug", f"{long}: tea", f"{long}: milk")
    names = [InputObject(text=text).name for text in texts]
    assert len(set(names)) == len(texts)
    assert all(re.fullmatch(r"[\w-]{1,69}", name) for name in names)
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="it holds none"):
        read_prompts(tmp_path / "none.txt")
    with pytest.raises(ValueError, match="there is no file"):
        read_prompts(tmp_path / "missing.txt")


def test_inputs_have_seeds_of_their_own():
    mug, hat = InputObject(text="a red mug"), InputObject(text="a blue hat")
    assert mug.seed(1) - mug.seed(0) == 1000
    assert mug.seed(0) != hat.seed(0)
    assert mug.seed(0) == InputObject(text="a red mug").seed(0) < 1000


def test_cores_are_shared_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert [describe_machine(tmp_path, "cpu", workers=workers).threads for workers in (1, 3, 40)] == [16, 5, 1]
    with pytest.raises(ValueError, match="at least 1 worker, but got 0"):
        describe_machine(tmp_path, "cpu", workers=0)


def test_a_row_says_how_it_was_made(tmp_path):
    rows = [describe_machine(tmp_path, "cpu", hardware=name, commit="abc").account() for name in ("old", "new", "old")]
    assert all_of(rows, "hardware") == "new, old"
    assert provenance(rows).startswith("device cpu, new, old; commit abc; ")
    assert rows[0]["hash3d"] == __version__
