"""Kernels equal the layers; the gradient that comes with a value is autograd's, and so are the derivatives of both.

Triton's on a GPU, or with TRITON_INTERPRET=1 on a CPU: `TRITON_INTERPRET=1 python -m pytest -m gpu` and this file.
"""

import copy
import os

import pytest
import torch
from torch import nn

import hash3d.kernels
from hash3d.representations.nerf import build_network
from hash3d.representations.relu_network import evaluate, find_network, value_and_gradient, weights_of

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def case(hidden: list[int]) -> tuple[nn.Sequential, torch.Tensor]:
    layers = build_network([5, *hidden, 1], seeded()).double()
    return layers, torch.randn(30, 5, generator=seeded(1), dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("hidden", [[7], [7, 6], [8, 7, 6]])
def test_value_gradient_and_the_derivatives_of_both_are_autograds(hidden):
    layers, inputs = case(hidden)
    learners = [inputs, *layers.parameters()]
    expected = layers(inputs)[:, 0]
    (gradient,) = torch.autograd.grad(expected.sum(), inputs, create_graph=True)
    results = []
    for value, found in ((expected, gradient), value_and_gradient(layers, inputs)):
        above = [torch.randn(each.shape, generator=seeded(2), dtype=torch.float64) for each in (value, found)]
        derivatives = torch.autograd.grad((value, found), learners, above, create_graph=True)
        # Once more, of everything that is not constant between the kinks.
        total = sum(each.square().sum() for each in derivatives)
        results.append([value, found, *derivatives, *torch.autograd.grad(total, learners)])
    for found, wanted in zip(*reversed(results), strict=True):
        torch.testing.assert_close(found, wanted)


def test_a_gradient_alone_or_a_value_alone_can_be_learnt():
    layers, inputs = case([7, 6])
    for chosen in (0, 1):
        grads = torch.autograd.grad(value_and_gradient(layers, inputs)[chosen].sum(), list(layers.parameters()))
        expected = layers(inputs)
        if chosen:
            (expected,) = torch.autograd.grad(expected.sum(), inputs, create_graph=True)
        for found, wanted in zip(grads, torch.autograd.grad(expected.sum(), list(layers.parameters())), strict=True):
            torch.testing.assert_close(found, wanted)


def test_no_inputs_have_no_values():
    layers, inputs = case([7])
    value, gradient = value_and_gradient(layers, inputs[:0])
    assert value.shape == (0,)
    assert gradient.shape == (0, 5)


NETWORKS = [
    # As in a mini field; odd, and one layer more.
    ("numba", (10, 64, 1), 1e-5),
    ("numba", (9, 7, 5, 3), 1e-5),
    # Rounded to 10 bits after the point, but what decides the signs of hidden units.
    *(pytest.param("triton", widths, 1e-2, marks=pytest.mark.gpu) for widths in [(32, 64, 1), (10, 64, 3), (5, 7, 1)]),
    # In float16, where rounding turns the sign of a unit in some thousand, which adds or removes all of its gradient.
    *(
        pytest.param("triton", widths, 5e-2, marks=pytest.mark.gpu)
        for widths in [(9, 7, 7, 3), (8, 64, 64, 3), (32, 64, 64, 3), (39, 96, 96, 96, 4), (39, 96, 96, 96, 1)]
    ),
]


@pytest.fixture
def interpreted(monkeypatch):
    """With TRITON_INTERPRET=1 Triton's kernels take tensors on the CPU."""
    if INTERPRETED:
        monkeypatch.setattr(hash3d.kernels, "uses_triton", lambda backend, like: backend == "triton")


@pytest.mark.parametrize("count", [0, 1, 300])  # none, one block, parts of three
@pytest.mark.parametrize(("kernels", "widths", "error"), NETWORKS)
def test_the_kernels_equal_the_layers(kernels, widths, error, count, interpreted):
    backend, device = ("auto", "cpu") if kernels == "numba" else ("triton", DEVICE)
    results = []
    for each, dtype in (("torch", torch.float64), (backend, torch.float32)):
        layers = build_network(list(widths), seeded()).to(device, dtype)
        inputs = torch.randn(count, widths[0], generator=seeded(1)).to(device, dtype).requires_grad_()
        # Gradients of a mean over many points are small.
        above = 1e-9 * torch.randn(count, widths[-1], generator=seeded(2)).to(device, dtype)
        found = evaluate(layers, inputs, each)
        assert ("_Network" in type(found.grad_fn).__name__) == (each != "torch")
        results.append((found, *torch.autograd.grad(found, (inputs, *layers.parameters()), above)))
    for expected, found in zip(*results, strict=True):
        assert found.shape == expected.shape
        assert (found.double() - expected).norm() <= error * expected.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("count", [0, 1, 300])
@pytest.mark.parametrize("widths", [(32, 64, 1), (5, 7, 1), (32, 64, 64, 1), (8, 64, 64, 1), (5, 7, 7, 1)])
def test_kernels_of_a_value_and_its_gradient_equal_the_reference(widths, count, interpreted):
    """No sign of a hidden unit turns: the value is exact, what is of rounded products nearly."""
    layers = build_network(list(widths), seeded()).to(DEVICE)
    weights = weights_of(layers)
    slopes = find_network("triton", weights, torch.ones(1, device=DEVICE)).slopes
    assert slopes.supports(weights)
    inputs = torch.randn(count, widths[0], generator=seeded(1)).to(DEVICE)
    above = [torch.randn(shape, generator=seeded(2)).to(DEVICE) for shape in [(count,), (count, widths[0])]]
    exact = copy.deepcopy(layers).double()
    expected = value_and_gradient(exact, inputs.double())
    found = slopes.value_and_gradient(inputs, weights)
    derivatives = torch.autograd.grad(expected, list(exact.parameters()), [each.double() for each in above])
    found_derivatives = slopes.value_and_gradient_backward(inputs, weights, *above)
    wanted, results = (*expected, *derivatives), (*found, *found_derivatives)
    for each, result, error in zip(wanted, results, [1e-5] + [3e-3] * (len(results) - 1), strict=True):
        assert result.shape == each.shape
        assert (result.double() - each).norm() <= error * each.norm()


@pytest.mark.gpu
@pytest.mark.parametrize("widths", [(5, 7, 1), (5, 7, 7, 2)])
def test_the_weights_learn_the_same_where_the_inputs_need_no_gradient(widths, interpreted):
    layers = build_network(list(widths), seeded()).to(DEVICE)
    inputs = torch.randn(300, 5, generator=seeded(1)).to(DEVICE)
    results = [
        torch.autograd.grad(evaluate(layers, each, "triton").square().sum(), list(layers.parameters()))
        for each in (inputs, inputs.clone().requires_grad_())
    ]
    for found, expected in zip(*results, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.gpu
def test_layers_without_kernels_are_pytorchs(interpreted):
    for widths in ([9, 7, 5, 3], [9, 129, 3], [65, 7, 3], [9, 7, 17], [9, 7, 7, 7, 7, 3], [9, 3]):
        layers = build_network(widths, seeded()).to(DEVICE)
        inputs = torch.ones(2, widths[0], device=DEVICE)
        found = evaluate(layers, inputs, "triton")
        assert torch.equal(found, layers(inputs))
        assert "_Network" not in type(found.grad_fn).__name__


def test_a_further_derivative_of_the_kernels_is_refused():
    inputs = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="Expected no further derivative of a field's networks"):
        torch.autograd.grad(
            evaluate(build_network([3, 4, 1], seeded()), inputs, "auto").sum(), inputs, create_graph=True
        )
