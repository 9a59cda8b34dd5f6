"""Means with their errors, and what is written between a page's marks."""

import math

import pytest
import torch

from hash3d.evaluation.provenance import BEGIN, END, with_measured
from research.experiments.provenance import mean_and_error


def test_the_standard_error_of_a_mean():
    """Of 1, 2, 3, 4: mean 2.5, sample variance 5 / 3, and sqrt(5 / 3 / 4)."""
    mean, error = mean_and_error(torch.tensor([1.0, 2.0, 3.0, 4.0]).double())
    assert (float(mean), float(error)) == (2.5, pytest.approx(math.sqrt(5 / 12)))
    assert math.isnan(float(mean_and_error(torch.tensor([1.0]))[1]))


def test_only_what_lies_between_the_marks_is_replaced():
    page = f"# Title\n\n{BEGIN}\nold\n{END}\n\nMine.\n"
    assert with_measured(page, r"new \1") == f"# Title\n\n{BEGIN}\nnew \\1\n{END}\n\nMine.\n"
    with pytest.raises(ValueError, match=r"Expected one .* in the page"):
        with_measured("# Title\n", "new")
