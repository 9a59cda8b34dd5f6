"""NaN and infinity are found wherever they are nested, in any dtype."""

import math

import pytest
import torch

from hash3d.tensors import all_finite, first_rows, generator_on, spread_rows, to_device


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_number_is_found(dtype, value):
    good = {"a": [torch.zeros(2, 3, dtype=dtype), 3, None, "x"], "b": (torch.arange(3),), "c": torch.zeros(0)}
    assert all_finite(good)
    bad = torch.zeros(2, 3, dtype=dtype)
    bad[1, 2] = value
    assert not all_finite({**good, "d": [{"e": bad}]})


def test_the_largest_numbers_are_finite():
    assert all_finite(torch.tensor([65504.0, -65504.0], dtype=torch.float16))
    assert all_finite([])


def test_takes_device_and_dtype_of_a_tensor():
    moved = to_device(torch.tensor([1, 2]), torch.zeros(1, dtype=torch.float64))
    assert moved.dtype == torch.float64
    assert moved.tolist() == [1.0, 2.0]


def test_keeps_the_dtype_for_a_device_and_copies_nothing_in_place():
    tensor = torch.tensor([1, 2])
    assert to_device(tensor, torch.device("cpu")) is tensor


@pytest.mark.gpu
def test_waits_for_nothing():
    device = torch.device("cuda")
    waited_for = torch.zeros(1, device=device)  # Starts the device.
    torch.cuda.set_sync_debug_mode("error")
    try:
        moved = to_device(torch.arange(1000), waited_for)
        spread = to_device(torch.tensor(3).expand(4), device)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert moved.cpu().tolist() == list(map(float, range(1000)))
    assert spread.cpu().tolist() == [3] * 4


def test_the_host_draws_from_the_generator_itself():
    generator = torch.Generator()
    assert generator_on(torch.device("cpu"), generator) is generator


@pytest.mark.gpu
def test_a_gpu_draws_what_the_host_s_generator_says():
    device = torch.device("cuda")
    first, again = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    draws = [torch.rand(5, generator=generator_on(device, each), device=device) for each in (first, again, first)]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("count", [0, 1, 5, 7, 8])
def test_spread_rows_come_in_order_each_about_as_often_and_once_as_new(count):
    rows, new = spread_rows(torch.tensor(count), 8)
    assert torch.equal(rows[new], torch.arange(count))
    assert (rows.diff() >= 0).all()
    assert rows.max() == max(count - 1, 0)
    assert rows.bincount().max() - rows.bincount().min() <= 1


@pytest.mark.parametrize("room", [1, 3, 40])
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_first_rows_are_those_of_nonzero(share, room):
    chosen = torch.rand(20, generator=torch.Generator().manual_seed(0)) < share
    rows, order = first_rows(chosen, room)
    expected = chosen.nonzero()[:room, 0]
    assert torch.equal(rows[: len(expected)], expected)
    assert not rows[len(expected) :].any()
    assert int(order[-1]) == int(chosen.sum())
