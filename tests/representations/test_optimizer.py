"""Adam and its state, with fused kernels and without. Fused kernels run on a CPU too, if one asks for them."""

import copy

import pytest
import torch
from torch import nn

from hash3d.representations.densify import prune
from hash3d.representations.gaussians import Gaussians, GaussiansConfig
from hash3d.representations.optimizer import build_adam, load_state


def adam(fused, seed=0):
    """Gaussians that have taken three steps, and their optimizer."""
    gaussians = GaussiansConfig(num_points=20).build(torch.Generator().manual_seed(seed))
    optimizer = torch.optim.Adam(
        [dict(group) for group in gaussians.parameter_groups()], eps=gaussians.config.adam_eps, fused=fused
    )
    for _ in range(3):
        step(gaussians, optimizer)
    return gaussians, optimizer


def step(gaussians: Gaussians, optimizer) -> None:
    tensors = gaussians.gaussians()
    loss = (
        (tensors.scales.sum(dim=-1) * tensors.opacities).square().sum() + tensors.colors.mean() + tensors.means.norm()
    )
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def numbers(gaussians):
    return torch.cat([parameter.detach().flatten() for parameter in gaussians.parameters()])


def test_a_cpu_has_plain_kernels():
    optimizer = build_adam([{"name": "all", "params": [nn.Parameter(torch.ones(3))], "lr": 0.1}])
    optimizer.add_param_group({"name": "background", "params": [nn.Parameter(torch.ones(2))], "lr": 0.1})
    assert [group["fused"] for group in optimizer.param_groups] == [None, None]


@pytest.mark.gpu
def test_a_gpu_has_fused_kernels():
    optimizer = build_adam([{"name": "all", "params": [nn.Parameter(torch.ones(3, device="cuda"))], "lr": 0.1}])
    optimizer.add_param_group({"name": "more", "params": [nn.Parameter(torch.ones(2, device="cuda"))], "lr": 0.1})
    assert [group["fused"] for group in optimizer.param_groups] == [True, True]


def test_rows_leave_a_fused_state_as_a_plain_one():
    """Equal up to rounding: the two kernels order their products differently."""
    results = []
    for fused in (True, None):
        gaussians, optimizer = adam(fused)
        prune(gaussians, optimizer, torch.arange(20) % 3 == 0)
        for _ in range(3):
            step(gaussians, optimizer)
        results.append(numbers(gaussians))
        assert len(gaussians) == 13
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("saved", [True, None])
@pytest.mark.parametrize("own", [True, None])
def test_a_state_from_another_device_goes_on_with_the_kernels_of_this_one(saved, own):
    gaussians, optimizer = adam(saved)
    other, resumed = adam(own, seed=1)
    other.load_state_dict(gaussians.state_dict())
    load_state(resumed, copy.deepcopy(optimizer.state_dict()))
    assert all(group["fused"] is own for group in resumed.param_groups)
    for each in ((gaussians, optimizer), (other, resumed)):
        step(*each)
    tolerance = {"rtol": 0, "atol": 0} if own is saved else {"rtol": 1e-5, "atol": 1e-6}  # Rounding of two kernels.
    torch.testing.assert_close(numbers(other), numbers(gaussians), **tolerance)


@pytest.mark.parametrize("damage", [lambda moments: moments[:0], lambda moments: None, lambda moments: moments.T])
def test_moments_that_do_not_fit_are_refused_and_settings_stay(damage):
    gaussians, optimizer = adam(None)
    step(gaussians, optimizer)
    saved = copy.deepcopy(optimizer.state_dict())
    saved["param_groups"][0] |= {"betas": None, "amsgrad": True}
    other, resumed = adam(None)
    load_state(resumed, saved)
    assert resumed.param_groups[0]["betas"] == optimizer.param_groups[0]["betas"]
    step(other, resumed)
    saved["state"][0]["exp_avg"] = damage(saved["state"][0]["exp_avg"])
    with pytest.raises(ValueError, match="moments that do not fit a parameter"):
        load_state(resumed, saved)
