"""Whether the views of a batch were guided."""

import math

import pytest
import torch

from hash3d.guidance.base import GuidanceOutput


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_loss_hides_what_was_predicted(bad):
    """The loss counts such numbers as zero, so that the prediction decides where it is given."""
    predicted = torch.zeros(1, 4, 2, 2)
    predicted[0, 3, 1, 1] = bad
    assert not GuidanceOutput(loss=torch.tensor(1.0), passes=1, predicted=predicted).finite
    assert not GuidanceOutput(loss=torch.tensor(bad), passes=1).finite
    assert GuidanceOutput(loss=torch.tensor(1.0), passes=1).finite
