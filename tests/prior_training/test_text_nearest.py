import pytest
import torch

from prior_training import text_nearest
from prior_training.text_nearest import TrainingViews, nearest, thumbnails
from tests.prior_training.toy_world import render_square


def test_the_nearest_are_those_of_brute_force():
    generator = torch.Generator().manual_seed(0)
    pictures, others = (torch.rand(count, 3, 64, 64, generator=generator) * 2 - 1 for count in (4, 23))
    others[17] = pictures[2]
    numbers = torch.arange(100, 123)
    distances, found = nearest(pictures, zip(numbers.split(5), others.split(5), strict=True), 3)

    small = [torch.nn.functional.avg_pool2d((each + 1) / 2, 2) for each in (pictures, others)]
    rms = (small[0][:, None] - small[1][None]).square().mean((2, 3, 4)).sqrt()
    expected = rms.sort(dim=1)
    assert torch.equal(found, numbers[expected.indices[:, :3]])
    # The distances come from scalar products, which lose the last digits of small ones.
    assert distances == pytest.approx(expected.values[:, :3], abs=1e-3)
    assert int(found[2, 0]) == 117


def test_black_and_white_are_one_apart():
    white = torch.ones(1, 3, 128, 128)
    assert float((thumbnails(white) - thumbnails(-white)).norm()) == pytest.approx(1.0, abs=1e-5)


def test_a_training_view_is_known_by_its_number(monkeypatch):
    monkeypatch.setattr(text_nearest, "render", render_square)
    views = TrainingViews(num_views=6, size=16, device=torch.device("cpu"))
    parts = list(views.in_parts(4))
    assert [len(numbers) for numbers, _ in parts] == [4, 2]
    pictures = torch.cat([part for _, part in parts])
    assert len(pictures.flatten(1).unique(dim=0)) == 6
    assert torch.equal(views.render(torch.tensor([5, 1])), pictures[[5, 1]])
