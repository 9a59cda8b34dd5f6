"""Means with their errors."""

import math

import pytest
import torch

from research.experiments.provenance import mean_and_error, with_error


def test_the_standard_error_of_a_mean():
    """Of 1, 2, 3, 4: mean 2.5, sample variance 5 / 3, and sqrt(5 / 3 / 4)."""
    mean, error = mean_and_error(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    assert (float(mean), float(error)) == (2.5, pytest.approx(math.sqrt(5 / 12)))
    assert math.isnan(float(mean_and_error(torch.tensor([1.0]))[1]))


def test_a_single_object_has_no_error():
    assert (with_error(1.0, math.nan), with_error(1.0, 0.255)) == ("1.00", "1.00 +- 0.26")
