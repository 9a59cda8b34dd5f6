"""A toy evaluation from end to end, and what its parts mean."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from prior_training import evaluate_views, novel_views
from prior_training.architecture import TOY, build_mini_zero123
from prior_training.evaluate_views import POSES, EvaluateConfig, asymmetric, evaluate, mean_view
from prior_training.novel_views import RelativePose, view
from prior_training.world import Objects, sample_objects
from tests.evaluation import test_truth
from tests.prior_training.toy_world import render_square

SIZE = TOY.size


@pytest.fixture(autouse=True)
def toy_world(monkeypatch):
    monkeypatch.setattr(novel_views, "render", render_square)


@pytest.fixture(scope="module")
def toy_prior(tmp_path_factory):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("toy")
    build_mini_zero123(TOY).save(folder)
    return folder


@pytest.fixture
def scanned(tmp_path):
    for name in ("box", "cup"):
        folder = tmp_path / "scanned" / name
        folder.mkdir(parents=True)
        test_truth.write(folder)
        shutil.copy(folder / "000.png", folder / "input.png")
    return tmp_path / "scanned"


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "pictures").mkdir()
    pixels = np.zeros((64, 64, 4), dtype=np.uint8)
    pixels[12:52, 12:52] = (200, 40, 40, 255)
    Image.fromarray(pixels).save(tmp_path / "pictures" / "square.png")
    return tmp_path / "pictures"


def toy_config(folder, toy_prior, **options):
    return EvaluateConfig(
        prior=toy_prior, out=folder / "out", num_objects=2, num_mean_objects=2, num_pairs=2, num_steps=2,
        guidance_scales=(2.0,), **options,
    )  # fmt: skip


@pytest.mark.nightly
def test_an_evaluation_of_two_priors(tmp_path, toy_prior, scanned, pictures):
    """The same prior twice: before and after stand side by side, and have the same figures."""
    config = toy_config(tmp_path, toy_prior, baseline=toy_prior, scanned=scanned, pictures=pictures)
    figures = evaluate(config)
    assert json.loads((config.out / "evaluation.json").read_text()) == figures
    held_out = {(row["view"], row["method"]): row["all"] for row in figures["held_out"]}
    methods = {method for _, method in held_out}
    assert len(held_out) == len(POSES) * len(methods)
    for name, _ in list(held_out):
        assert held_out[name, "prior, guidance 2"] == held_out[name, "baseline, guidance 2"]
    of_scans = {(row["object"], row["method"]): row["all"]["psnr_mean"] for row in figures["scanned"]}
    assert {method for _, method in of_scans} == methods - {"mean view"}
    both = [of_scans[name, "copying the input"] for name in ("box", "cup")]
    assert of_scans["mean", "copying the input"] == pytest.approx(sum(both) / 2, abs=1e-3)
    assert [row["method"] for row in figures["pose_test"]] == ["prior", "baseline"]
    table = (config.out / "evaluation.md").read_text()
    assert "| azimuth 30 | mean view |" in table
    assert "| elevation 45 to 15 | baseline, guidance 2 |" in table
    assert "| cup |" in table
    sizes = {path.name: Image.open(path).size for path in config.out.glob("*.png")}
    assert sizes == {
        "held_out.png": (2 * SIZE, (1 + 2 * len(POSES)) * SIZE),
        "scanned.png": (9 * SIZE, 2 * SIZE),
        "pictures_2.png": (9 * SIZE, SIZE),
    }


def test_copying_is_perfect_where_the_input_was_taken(tmp_path, toy_prior, monkeypatch):
    monkeypatch.setattr(evaluate_views, "POSES", (RelativePose(), RelativePose(azimuth=90.0)))
    rows = {(row["view"], row["method"]): row["all"] for row in evaluate(toy_config(tmp_path, toy_prior))["held_out"]}
    copying = rows["azimuth 0", "copying the input"]
    assert copying == {"psnr_median": 60.0, "psnr_mean": 60.0, "ssim_mean": 1.0, "iou_mean": 1.0}
    assert rows["azimuth 90", "copying the input"]["psnr_mean"] < 60.0
    assert rows["azimuth 0", "mean view"]["psnr_mean"] < 60.0


def test_the_mean_view():
    """Of one object twice it is that object's view; of two objects, half of each."""
    pose = RelativePose(azimuth=30.0)
    first, second = (sample_objects(torch.tensor([number])) for number in (3, 11))
    one, two = (view(each, 30.0, 15.0, SIZE)[0] for each in (first, second))
    torch.testing.assert_close(mean_view(Objects.concatenate([first, first]), pose, SIZE), one)
    torch.testing.assert_close(mean_view(Objects.concatenate([first, second]), pose, SIZE), (one + two) / 2)


def test_asymmetric_objects_look_different_from_the_side_and_from_behind(monkeypatch):
    """Three objects: alike all round, another from the side alone, another from the side and from behind."""
    looks = {0.0: [0.0, 0.0, 0.0], 90.0: [0.0, 1.0, 1.0], 180.0: [0.0, 0.0, -1.0]}

    def fake(objects, azimuth, elevation, size):
        return torch.tensor(looks[azimuth]).view(3, 1, 1, 1).expand(3, 3, size, size)

    monkeypatch.setattr(evaluate_views, "view", fake)
    assert asymmetric(sample_objects(torch.arange(3)), SIZE).tolist() == [False, False, True]


def test_what_cannot_be_evaluated(tmp_path, toy_prior):
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"Expected folders of true views in .*, but no folder"):
        evaluate(toy_config(tmp_path, toy_prior, scanned=empty))
    with pytest.raises(ValueError, match=r"Expected PNG pictures in .*, but it holds none"):
        evaluate(toy_config(tmp_path, toy_prior, pictures=empty))
    torch.manual_seed(0)
    build_mini_zero123(dataclasses.replace(TOY, size=64)).save(tmp_path / "larger")
    with pytest.raises(ValueError, match="Expected a baseline of the prior's 32 pixels a side, but got 64"):
        evaluate(toy_config(tmp_path, toy_prior, baseline=tmp_path / "larger"))
