"""The buffer of denoised images."""

import pytest
import torch

from hash3d.guidance.targets import ReplayConfig, TargetBuffer


def numbered(count: int, **options) -> TargetBuffer[int]:
    """A buffer after `count` images of 2x2x3 floats (48 bytes), each full of its number."""
    targets = TargetBuffer[int](**{"kept": 5, "max_bytes": 2**20, **options})
    for number in range(count):
        targets.add(torch.full((2, 2, 3), float(number)), number)
    return targets


def views_of(targets: TargetBuffer[int], seed: int = 0, count: int = 99) -> list[int]:
    return targets.sample(count, torch.Generator().manual_seed(seed))[1]


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, 5), ({"kept": 1}, 1), ({"max_bytes": 3 * 48 + 47}, 3), ({"max_bytes": 1}, 1), ({"kept": 99}, 8)],
)
def test_the_newest_stay_within_the_count_and_the_bytes(options, kept):
    assert sorted(views_of(numbered(8, **options))) == list(range(8 - kept, 8))


def test_images_of_other_sizes_stay_within_the_bytes():
    targets = TargetBuffer[int](kept=99, max_bytes=5 * 48)
    for number, size in enumerate((4, 2, 2, 1, 2, 1)):  # 192, 48, 48, 12, 48, 12 bytes.
        targets.add(torch.zeros(size, size, 3), number)
    assert sorted(views_of(targets)) == [1, 2, 3, 4, 5]


def test_a_sample_is_of_different_images_each_with_its_view():
    images, views = numbered(5).sample(3, torch.Generator().manual_seed(1))
    assert len(set(views)) == 3
    assert [float(image.mean()) for image in images] == views


def test_a_kept_image_does_not_change_with_the_callers():
    targets, image = TargetBuffer[str](kept=1, max_bytes=2**20), torch.ones(2, 2, 3)
    targets.add(image, "front")
    image.zero_()
    ((kept,), _) = targets.sample(1, torch.Generator())
    assert torch.equal(kept, torch.ones(2, 2, 3))


def test_each_image_is_sampled_equally_often():
    """Each of 5 is in a sample of 2 with probability 2/5: 400 +- 4 standard deviations (15.5) of 1,000."""
    targets, generator = numbered(5), torch.Generator().manual_seed(2)
    drawn = [view for _ in range(1000) for view in targets.sample(2, generator)[1]]
    assert all(abs(drawn.count(view) - 400) < 62 for view in range(5))


def test_a_saved_buffer_goes_on_as_it_was():
    first, second = numbered(7), numbered(0)
    second.load_state_dict(first.state_dict(), torch.device("cpu"))
    first.add(torch.zeros(2, 2, 3), 7)
    second.add(torch.zeros(2, 2, 3), 7)
    assert views_of(first) == views_of(second)
    assert sorted(views_of(second)) == [3, 4, 5, 6, 7]
    smaller = numbered(0, kept=2)
    smaller.load_state_dict(first.state_dict(), torch.device("cpu"))
    assert sorted(views_of(smaller)) == [6, 7]


def test_an_empty_buffer_gives_nothing():
    assert numbered(0).sample(3, torch.Generator()) == ([], [])


@pytest.mark.parametrize(
    ("steps", "path"), [(1, [900]), (2, [900, 450]), (3, [900, 600, 300]), (900, list(range(900, 0, -1)))]
)
def test_a_path_falls_in_equal_steps(steps, path):
    assert ReplayConfig(denoising_steps=steps).path(900) == path


def test_a_path_stays_above_0():
    assert ReplayConfig(denoising_steps=3).path(1) == [1, 1, 1]


@pytest.mark.parametrize(("until", "active"), [(1.0, 10), (0.75, 8), (0.5, 5), (0.01, 1)])
def test_the_first_share_of_the_steps_replays(until, active):
    assert [ReplayConfig(until=until).active(step, 10) for step in range(10)] == [step < active for step in range(10)]


@pytest.mark.parametrize(
    "settings", [{"every": 0}, {"denoising_steps": 0}, {"kept": 0}, {"fitted": 0}, {"until": 0.0}, {"until": 1.1},
                 {"weight": 0.0}, {"max_bytes": 0}],
)  # fmt: skip
def test_settings_out_of_range_are_refused(settings):
    (name,) = settings
    with pytest.raises(ValueError, match=f"Expected {name}"):
        ReplayConfig(**settings)
