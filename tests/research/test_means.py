"""Means with their errors."""

import math

import pytest
import torch

from research.means import mean_and_error


def test_the_standard_error_of_a_mean():
    """Of 1, 2, 3, 4: mean 2.5, sample variance 5 / 3, and sqrt(5 / 3 / 4)."""
    mean, error = mean_and_error(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    assert (float(mean), float(error)) == (2.5, pytest.approx(math.sqrt(5 / 12)))
    assert math.isnan(float(mean_and_error(torch.tensor([1.0]))[1]))
