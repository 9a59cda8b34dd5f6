"""What the elevations and azimuths of novel views mean, on objects whose pictures are known."""

import math

import pytest
import torch
from PIL import Image

from prior_training import novel_views
from prior_training.architecture import TOY, build_mini_zero123
from prior_training.novel_views import (
    NovelViews,
    RelativePose,
    Sampler,
    held_out_views,
    random_pairs,
    scanned_views,
    view,
)
from prior_training.sampling import sample_views
from prior_training.world import render, sample_objects
from tests.evaluation import test_truth
from tests.prior_training.toy_world import render_square

SIZE = 32


@pytest.fixture(autouse=True)
def toy_world(monkeypatch):
    monkeypatch.setattr(novel_views, "render", render_square)


@pytest.fixture(scope="module")
def objects():
    return sample_objects(torch.tensor([3, 11]))


def some_views(count, **angles):
    named = {"reference_elevation": 15.0, "elevation": 15.0, "relative_azimuth": 0.0, **angles}
    inputs = torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return NovelViews(inputs=inputs, **{name: torch.full((count,), value) for name, value in named.items()})


def test_a_view_from_where_the_input_was_taken_is_the_input(objects):
    views, truth = held_out_views(objects, RelativePose(), SIZE)
    assert torch.equal(views.inputs, truth)
    assert not torch.equal(truth, view(objects, 90.0, 15.0, SIZE))


def test_up_and_down_are_one_pair_of_views_the_other_way_about(objects):
    up, from_above = held_out_views(objects, RelativePose(elevation=45.0), SIZE)
    down, from_below = held_out_views(objects, RelativePose(reference_elevation=45.0), SIZE)
    assert torch.equal(up.inputs, from_below)
    assert torch.equal(down.inputs, from_above)


def test_pose_numbers_have_the_right_sign():
    """The polar angle falls by 30 degrees on the way up; the fourth number is that of the input."""
    up, down = (RelativePose(elevation=45.0), RelativePose(reference_elevation=45.0))
    for pose, rise in ((up, 30.0), (down, -30.0)):
        angles = {"reference_elevation": pose.reference_elevation, "elevation": pose.elevation}
        numbers = some_views(1, **angles, relative_azimuth=90.0).pose("stable")[0]
        expected = [math.radians(-rise), 1.0, 0.0, math.radians(90 - pose.reference_elevation)]
        torch.testing.assert_close(numbers, torch.tensor(expected), rtol=0, atol=1e-6)


def test_poses_have_names():
    assert str(RelativePose(azimuth=30.0)) == "azimuth 30"
    assert str(RelativePose(elevation=45.0)) == "elevation 15 to 45"
    assert str(RelativePose(reference_elevation=45.0)) == "elevation 45 to 15"


def test_views_are_split_turned_and_concatenated():
    views = some_views(5, relative_azimuth=10.0)
    assert [len(part) for part in views.split(2)] == [2, 2, 1]
    again = NovelViews.concatenate(views.split(2))
    assert torch.equal(again.inputs, views.inputs)
    assert views.turned(15.0).relative_azimuth.tolist() == [25.0] * 5
    assert views.turned(15.0).elevation.tolist() == [15.0] * 5


def test_random_pairs_are_views_of_one_object_at_their_angles(objects):
    """The true view is what the input's camera sees when it has gone round by the relative azimuth."""
    views, truth = random_pairs(objects, SIZE, seed=5)
    again, _ = random_pairs(objects, SIZE, seed=5)
    assert torch.equal(views.inputs, again.inputs)
    assert ((views.reference_elevation >= -20) & (views.reference_elevation <= 80)).all()
    assert ((views.elevation >= -20) & (views.elevation <= 75)).all()
    first = torch.rand(4, 2, generator=torch.Generator().manual_seed(5))[0] * 360
    assert torch.equal(view(objects, first, views.reference_elevation, SIZE), views.inputs)
    difference = view(objects, first + views.relative_azimuth, views.elevation, SIZE) - truth
    assert difference.abs().max() < 2 / 127, "the azimuths agree up to rounding"
    assert not torch.equal(views.inputs, truth)


def test_scanned_views_are_reduced_by_area(tmp_path):
    folder = test_truth.write(tmp_path)
    Image.open(folder / "000.png").save(folder / "input.png")
    views, truth = scanned_views(folder, 8)
    assert views.relative_azimuth.tolist() == [0, 90]
    assert views.elevation.tolist() == [0, 30]
    assert views.reference_elevation.tolist() == [15, 15]
    assert views.inputs.shape == truth.shape == (2, 3, 8, 8)
    torch.testing.assert_close(truth[0, :, 2, 0], torch.tensor([1.0, -1.0, -1.0]))
    torch.testing.assert_close(truth[0, :, 5, 0], torch.tensor([0.6, 0.6, 1.0])), "blue, a fifth of it, on white"
    assert torch.equal(truth[0, :, 0], torch.ones(3, 8))


def test_the_sampler_asks_for_each_view_at_its_pose():
    """Views that go through in parts of one are the prior's views of each, with the same noise."""
    torch.manual_seed(0)
    prior = build_mini_zero123(TOY).eval()
    views = NovelViews.concatenate([some_views(1, relative_azimuth=90.0), some_views(1, elevation=45.0)])
    images = Sampler(num_steps=2, seed=3, batch_size=1).sample(prior, views, 2.0)
    for index in range(2):
        one = views[slice(index, index + 1)]
        expected = sample_views(prior, one.inputs, one.pose("stable"), guidance_scale=2.0, num_steps=2, seed=3)
        assert torch.equal(images[index], expected[0])


def test_a_view_of_the_world_itself(monkeypatch):
    """Not the toy: an object on white, in [-1, 1]."""
    monkeypatch.setattr(novel_views, "render", render)
    image = view(sample_objects(torch.tensor([3])), 0.0, 15.0, SIZE)[0]
    assert torch.equal(image[:, 0, 0], torch.ones(3))
    assert image.min() >= -1
    assert (image < 0.9).any()
