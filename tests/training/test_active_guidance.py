"""A guidance at work."""

import pytest
import torch

from hash3d.training.active_guidance import scale_timesteps


@pytest.mark.parametrize(("first", "second"), [((20, 980), (20, 600)), ((600, 980), (200, 600)), ((5, 9), (0, 999))])
def test_the_scale_timesteps_of_another_range(first, second):
    """Both ends stay, order stays, equal steps stay equal up to rounding, and so it covers the other range evenly."""
    timesteps = torch.arange(first[0], first[1] + 1)
    found = scale_timesteps(timesteps, first, second)
    assert (int(found[0]), int(found[-1])) == second
    assert (found.diff() >= 0).all()
    step = (second[1] - second[0]) / (first[1] - first[0])
    assert ((found - second[0]).double() - step * (timesteps - first[0]).double()).abs().max() <= 0.5 + 1e-9
    assert torch.equal(scale_timesteps(timesteps, first, first), timesteps)


def test_the_scale_timesteps_of_one_timestep_is_the_other_range_s_first():
    assert scale_timesteps(torch.tensor([500]), (500, 500), (20, 600)).tolist() == [20]
