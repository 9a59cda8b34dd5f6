"""The elevation's classifier learns from views by their angles alone."""

import json
import math

import pytest
import torch

from hash3d.pictures.classifier import ImageClassifier, load_classifier
from hash3d.pictures.elevation import mean_elevations
from prior_training import elevation
from prior_training.view_buffer import Table
from tests.prior_training.toy_world import render_square


@pytest.fixture
def squares(monkeypatch):
    monkeypatch.setattr(elevation, "render", render_square)


def test_views_are_mostly_of_the_front_and_from_usual_heights(squares):
    table, generator = Table(torch.device("cpu"), 4), torch.Generator().manual_seed(0)
    pixels, heights = elevation.draw_views(table, 2000, 8, generator)
    assert (heights.min() >= -20, heights.max() <= 80) == (True, True)
    assert ((heights >= -10) & (heights <= 50)).float().mean() == pytest.approx(0.75 + 0.25 * 0.6, abs=0.03)
    assert pixels[:, 4, 4, 1] == pytest.approx((heights + 90).round(), abs=0)


def test_the_loss_is_least_where_the_neighbours_share_the_weight():
    """Cross entropy with (0.4, 0.6) is the entropy of these at the same scores, and larger at others."""
    heights = torch.tensor([elevation.ELEVATIONS[2] + 3.0])
    right = torch.full((1, len(elevation.ELEVATIONS)), 1e-9)
    right[0, 2:4] = torch.tensor([0.4, 0.6])
    wrong = right.clone()
    wrong[0, 2:4] = torch.tensor([0.6, 0.4])
    least = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert float(elevation.elevation_loss(right.log(), heights)) == pytest.approx(least, abs=1e-5)
    assert elevation.elevation_loss(wrong.log(), heights) > least + 0.05


def test_what_tells_nothing_is_expected_where_pictures_are_taken():
    """Scores of the training's own shares become the normal distribution."""
    classifier = ImageClassifier((8,), 16, (len(elevation.ELEVATIONS),)).eval()
    torch.nn.init.zeros_(classifier.head.weight)
    shares = torch.tensor([0.25 / 21 + (0.75 / 13 if -10 <= each <= 50 else 0.0) for each in elevation.ELEVATIONS])
    classifier.head.bias.data = shares.log()
    elevation.expect_usual(classifier)
    found = classifier.score(torch.zeros(1, 3, 16, 16))[0].exp()[0].detach()
    values = torch.tensor(elevation.ELEVATIONS)
    normal = torch.distributions.Normal(*elevation.USUAL).log_prob(values).softmax(0)
    assert found == pytest.approx(normal, abs=1e-5)


def test_three_in_four_chosen_views_are_of_the_front_and_have_their_own_elevation():
    """A pixel is its row and view: of eight views three are of the front, and four from anywhere."""
    rows, views = torch.meshgrid(torch.arange(5), torch.arange(8), indexing="ij")
    pixels = torch.stack([rows, views, rows, views], dim=-1)[:, :, None, None].to(torch.uint8)
    found, angles = elevation.choose_views(pixels, 10.0 * rows + views, 4000, torch.Generator().manual_seed(0))
    row, view = found[:, 0, 0, 0].float(), found[:, 0, 0, 1].float()
    assert torch.equal(angles, 10 * row + view)
    assert float((view < 3).float().mean()) == pytest.approx(0.75, abs=0.03)
    assert set(view.tolist()) == {0, 1, 2, 4, 5, 6, 7}
    assert len(row.unique()) == 5


@pytest.mark.nightly
def test_toy_training_learns_heights(tmp_path, squares):
    config = elevation.TrainConfig(
        out=tmp_path, seconds=600, batch_size=64, learning_rate=1e-2, num_objects=64, num_held_out=64, widths=(16, 32),
        size=16, max_steps=80,
    )  # fmt: skip
    elevation.Training(config).run()
    found = json.loads((tmp_path / "accuracy.json").read_text())["held_out"]
    assert found["error"] < 0.7 * found["constant_20"]
    classifier, values = load_classifier(tmp_path, "elevations")
    assert mean_elevations(classifier, values["elevations"], torch.ones(1, 3, 16, 16)).isfinite().all()
