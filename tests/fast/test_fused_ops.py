"""Group normalisation with SiLU: the reference implementation, and on a GPU the kernels against it."""

import pytest
import torch
import torch.nn.functional as F

from hash3d.fast import fused_ops as module
from hash3d.fast.fused_ops import add_bias, geglu

CASES = {
    "a group fits a program": (2, 64, 8, 8, 32),
    "a group is large": (1, 128, 96, 100, 4),
    "odd channels and size": (3, 20, 37, 70, 5),
    "width above a block": (2, 320, 64, 64, 2),
}


def group_norm(x, groups, weight, bias, eps, **options):
    norm = torch.nn.GroupNorm(groups, x.shape[1], eps).requires_grad_(False)
    norm.weight.data, norm.bias.data = weight, bias
    return module.group_norm(norm, x, **options)


def draw(case, dtype, device="cpu"):
    n, channels, height, width, groups = case
    torch.manual_seed(0)
    x = (2.0 * torch.randn(n, channels, height, width) + 3.0).to(device, dtype)
    vectors = [torch.randn(channels).to(device, dtype) for _ in range(3)]
    return x.contiguous(memory_format=torch.channels_last), groups, *vectors, torch.randn(n, channels).to(device, dtype)


@pytest.mark.parametrize("silu", [False, True])
def test_each_group_has_mean_0_and_variance_1_before_the_weights(silu):
    x, groups, *_ = draw((2, 12, 5, 7, 3), torch.float64)
    ones, zeros = torch.ones(12, dtype=torch.float64), torch.zeros(12, dtype=torch.float64)
    result = group_norm(x, groups, ones, zeros, 0.0, silu=silu)
    by_group = x.reshape(2, 3, -1)
    expected = (by_group - by_group.mean(-1, keepdim=True)) / by_group.std(-1, correction=0, keepdim=True)
    expected = expected * expected.sigmoid() if silu else expected
    assert torch.allclose(result.reshape(2, 3, -1), expected)


def test_shifts_are_added_before():
    x, groups, weight, bias, first, second = draw((2, 12, 5, 7, 3), torch.float64)
    shifted = x + first[None, :, None, None] + second[:, :, None, None]
    expected = group_norm(shifted, groups, weight, bias, 1e-5, silu=True)
    assert torch.allclose(group_norm(x, groups, weight, bias, 1e-5, silu=True, shifts=(first, second)), expected)


@pytest.mark.gpu
@pytest.mark.parametrize("silu", [False, True])
@pytest.mark.parametrize("shifted", [False, True])
# Both in float32 inside; half precision rounds once, by at most 2^-11 relative to the largest values.
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float16, 1e-3)])
@pytest.mark.parametrize("case", list(CASES))
def test_the_kernels_equal_the_reference(case, dtype, tolerance, shifted, silu):
    x, groups, weight, bias, *shifts = draw(CASES[case], dtype, "cuda")
    shifts = tuple(shifts) if shifted else (None, None)
    dy = torch.randn_like(x)

    exact = x.double().requires_grad_()
    moved = exact
    for shift in shifts:
        moved = moved if shift is None else moved + shift.double()[..., None, None]
    expected = F.group_norm(moved, groups, weight.double(), bias.double(), 1e-5)
    expected = F.silu(expected) if silu else expected
    (expected_gradient,) = torch.autograd.grad(expected, exact, dy.double())

    leaf = x.clone(memory_format=torch.channels_last).requires_grad_()
    result = group_norm(leaf, groups, weight, bias, 1e-5, silu=silu, shifts=shifts)
    (gradient,) = torch.autograd.grad(result, leaf, dy)
    with torch.no_grad():
        without_derivative = group_norm(x, groups, weight, bias, 1e-5, silu=silu, shifts=shifts)
    for got, wanted in ((result, expected), (without_derivative, expected), (gradient, expected_gradient)):
        assert (got.double() - wanted).norm() <= tolerance * wanted.norm()


def images(device="cpu", dtype=torch.float64):
    torch.manual_seed(0)
    x, other = (torch.randn(2, 24, 9, 11).to(device, dtype).to(memory_format=torch.channels_last) for _ in range(2))
    return x, other, torch.randn(24).to(device, dtype)


def test_a_bias_and_a_residual_are_added():
    x, other, bias = images()
    assert torch.equal(add_bias(x, bias, other), x + other + bias[:, None, None])
    assert torch.equal(add_bias(x, None), x)


def test_geglu_gates_by_the_second_half_of_a_row():
    rows = torch.tensor([[2.0, 3.0, 0.0, 1e3]], dtype=torch.float64)
    assert torch.allclose(geglu(rows), torch.tensor([[0.0, 3e3]], dtype=torch.float64))


@pytest.mark.gpu
@pytest.mark.parametrize("with_other", [False, True])
def test_add_bias_on_a_gpu_equals_the_reference_forward_and_backward(with_other):
    x, other, bias = images("cuda", torch.float32)
    leaves = [x.clone(memory_format=torch.channels_last).requires_grad_() for x in (x, other)]
    result = add_bias(leaves[0], bias, leaves[1] if with_other else None)
    expected = x.double() + (other.double() if with_other else 0.0) + bias.double()[:, None, None]
    assert torch.allclose(result.double(), expected, atol=1e-6)  # Three float32 roundings of numbers near 1.
    dy = torch.randn_like(result)
    for gradient in torch.autograd.grad(result, leaves if with_other else leaves[:1], dy):
        assert torch.equal(gradient, dy)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_rows_on_a_gpu_equal_the_reference(dtype):
    torch.manual_seed(0)
    x = torch.randn(3, 50, 2 * 320, device="cuda").to(dtype)
    values, gate = x.double().chunk(2, dim=-1)
    # Half precision rounds the gate and the result, each by at most 2^-11.
    tolerance = 1e-6 if dtype == torch.float32 else 1e-3
    got, wanted = geglu(x), values * F.gelu(gate)
    assert got.dtype == dtype
    assert (got.double() - wanted).norm() <= tolerance * wanted.norm()
