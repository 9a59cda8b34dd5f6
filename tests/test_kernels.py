"""The choice between PyTorch and Triton, and the refusal of derivatives that kernels lack."""

import pytest
import torch

from hash3d.kernels import require_last_derivative, uses_triton


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_pytorch_works_on_a_cpu_and_a_choice_that_cannot_run_is_refused(dtype):
    like = torch.zeros(1, dtype=dtype)
    assert not uses_triton("auto", like)
    assert not uses_triton("torch", like)
    with pytest.raises(ValueError, match=f"'triton' needs float32 on cuda, but got {dtype} on cpu"):
        uses_triton("triton", like)


@pytest.mark.gpu
def test_on_a_gpu_float32_alone_has_kernels():
    assert uses_triton("auto", torch.zeros(1, device="cuda"))
    assert not uses_triton("auto", torch.zeros(1, device="cuda", dtype=torch.float64))
    assert not uses_triton("torch", torch.zeros(1, device="cuda"))


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2.0 * x

    @staticmethod
    def backward(ctx, gradient):
        require_last_derivative("a test")
        return 2.0 * gradient


def test_a_graph_of_a_last_derivative_is_refused():
    x = torch.ones(3, requires_grad=True)
    assert torch.equal(torch.autograd.grad(Doubled.apply(x).sum(), x)[0], torch.full((3,), 2.0))
    with pytest.raises(RuntimeError, match=r"Expected no further derivative of a test: .* or leave out create_graph"):
        torch.autograd.grad(Doubled.apply(x).sum(), x, create_graph=True)
