"""Weights that are written behind PyTorch's back are seen by their numbers, in parts by turns."""

import pytest
import torch

from hash3d.unet.weight_sums import PARTS, PAUSE, WeightSums

pytestmark = pytest.mark.filterwarnings("ignore:Weights of the U-Net")


def sums(count=40):
    weights = [torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)) for seed in range(count)]
    found = WeightSums(weights)
    assert not any(found.look() for _ in range(PARTS * PAUSE + 5))
    return weights, found


def calls_until_seen(found, *, at_most):
    seen = [found.look() for _ in range(at_most)]
    assert sum(seen) == 1
    assert not any(found.look() for _ in range(PARTS * PAUSE))
    return seen.index(True) + 1


@pytest.mark.parametrize("number", [0, 7, 39])
def test_one_weight_is_seen_once_all_parts_have_had_their_turn(number):
    weights, found = sums()
    weights[number].data[1, 1] += 1.0
    calls_until_seen(found, at_most=PARTS * PAUSE + 2)


def test_weights_that_were_exchanged_are_read_at_once():
    weights, found = sums()
    weights[7].data = weights[7] + 1.0
    assert [found.look(due=True), found.look()] == [False, True]
    weights[7].data = weights[7].clone()
    assert [found.look(due=True), found.look()] == [False, False]


def test_a_write_that_is_known_is_taken_for_granted_but_not_the_next():
    weights, found = sums()
    weights[7].mul_(2.0)
    assert not any(found.look(forget=number == 0) for number in range(PARTS * PAUSE + 2))
    weights[7].data.mul_(2.0)
    calls_until_seen(found, at_most=PARTS * PAUSE + 2)


def test_fewer_weights_than_parts_are_read_too():
    weights, found = sums(3)
    weights[2].data[0] = 0.0
    assert calls_until_seen(found, at_most=3 * PAUSE + 2) <= 3 * PAUSE + 2
