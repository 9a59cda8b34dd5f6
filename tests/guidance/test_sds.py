"""The gradient of score distillation, exactly."""

import pytest
import torch

from hash3d.guidance.sds import classifier_free_guidance, sds_gradient, sds_loss

GENERATOR = torch.Generator().manual_seed(0)


def dyadic(*shape):
    """Numbers k / 64 below 4, whose sums float32 holds exactly."""
    return torch.randint(-256, 256, shape, generator=GENERATOR) / 64


def test_the_loss_has_exactly_the_gradient():
    """d loss / d latents = w(t) (noise_pred - noise) / B."""
    latents = dyadic(4, 4, 8, 8).requires_grad_()
    noise_pred, noise, weights = dyadic(4, 4, 8, 8), dyadic(4, 4, 8, 8), torch.tensor([1.0, 0.5, 0.25, 2.0])
    loss = sds_loss(latents, sds_gradient(noise_pred, noise, weights))
    loss.backward()
    expected = weights[:, None, None, None] * (noise_pred - noise)
    assert torch.equal(latents.grad, expected / 4)
    assert loss.item() == pytest.approx(0.5 * expected.square().sum().item() / 4)


def test_the_gradient_of_any_latents_is_exact_to_rounding():
    latents = torch.randn(2, 4, 8, 8, generator=GENERATOR, requires_grad=True)
    gradient = torch.randn(2, 4, 8, 8, generator=GENERATOR)
    sds_loss(latents, gradient).backward()
    torch.testing.assert_close(latents.grad, gradient / 2, rtol=0, atol=1e-6)


def test_small_gradients_survive_half_precision():
    """Latents near 1 in float16 are 2^-10 apart; the gradient must not be rounded to that."""
    latents = torch.ones(1, 4, 8, 8, dtype=torch.float16, requires_grad=True)
    sds_loss(latents, torch.full((1, 4, 8, 8), 1e-4, dtype=torch.float16)).backward()
    torch.testing.assert_close(latents.grad, torch.full_like(latents, 1e-4), rtol=1e-2, atol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_no_number_counts_as_zero(bad):
    latents, gradient = dyadic(1, 4, 8, 8).requires_grad_(), dyadic(1, 4, 8, 8)
    gradient[0, 1, 2, 3] = bad
    loss = sds_loss(latents, gradient)
    loss.backward()
    gradient[0, 1, 2, 3] = 0
    assert torch.isfinite(loss)
    assert torch.equal(latents.grad, gradient)


def test_a_bound_clamps_each_number_before_the_mean():
    """A number that is not finite is still zero, not the bound."""
    latents, gradient = dyadic(2, 4, 8, 8).requires_grad_(), dyadic(2, 4, 8, 8)
    gradient[0, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])
    sds_loss(latents, gradient, max_gradient=1.5).backward()
    expected = torch.where(gradient.isfinite(), gradient.clamp(-1.5, 1.5), torch.zeros(()))
    assert torch.equal(latents.grad, expected / 2)
    assert latents.grad.abs().max() == 0.75


def test_no_gradient_flows_into_the_prediction():
    noise_pred = dyadic(1, 4, 8, 8).requires_grad_()
    latents = dyadic(1, 4, 8, 8).requires_grad_()
    sds_loss(latents, sds_gradient(noise_pred, dyadic(1, 4, 8, 8), torch.ones(1))).backward()
    assert noise_pred.grad is None


def test_classifier_free_guidance():
    conditional, unconditional = dyadic(1, 4, 8, 8), dyadic(1, 4, 8, 8)
    assert torch.equal(classifier_free_guidance(conditional, unconditional, 1.0), conditional)
    assert torch.equal(classifier_free_guidance(conditional, unconditional, 0.0), unconditional)
    tripled = classifier_free_guidance(conditional, unconditional, 3.0)
    assert torch.equal(tripled, 3 * conditional - 2 * unconditional)
