"""Bias and GEGLU: reference implementations, and on a GPU the kernels against them."""

import pytest
import torch
import torch.nn.functional as F

from hash3d.fast.elementwise import add_bias, geglu


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
