"""NaN and infinity are found wherever they are nested, in any dtype."""

import math

import pytest
import torch

from hash3d.finite import all_finite


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
