"""Kernels equal the layers; the gradient that comes with a value is autograd's, and so are the derivatives of both."""

import pytest
import torch
from torch import nn

from hash3d.representations.nerf import build_network
from hash3d.representations.relu_network import evaluate, value_and_gradient


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


@pytest.mark.parametrize("count", [0, 1, 300])  # none, one block, parts of three
@pytest.mark.parametrize("widths", [(10, 64, 1), (9, 7, 5, 3)])  # as in a mini field; odd, and one layer more
def test_the_kernels_equal_the_layers(widths, count):
    results = []
    for backend, dtype in (("torch", torch.float64), ("auto", torch.float32)):
        layers = build_network(list(widths), seeded()).to(dtype)
        inputs = torch.randn(count, widths[0], generator=seeded(1)).to(dtype).requires_grad_()
        above = torch.randn(count, widths[-1], generator=seeded(2)).to(dtype)
        found = evaluate(layers, inputs, backend)
        results.append((found, *torch.autograd.grad(found, (inputs, *layers.parameters()), above)))
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_further_derivative_of_the_kernels_is_refused():
    inputs = torch.ones(2, 3, requires_grad=True)
    with pytest.raises(RuntimeError, match="Expected no further derivative of a field's networks"):
        torch.autograd.grad(
            evaluate(build_network([3, 4, 1], seeded()), inputs, "auto").sum(), inputs, create_graph=True
        )
