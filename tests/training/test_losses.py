"""Losses by hand."""

import torch

from hash3d.training.losses import color_loss, mask_loss, opaque_loss, scale_loss


def test_means_of_squares():
    assert color_loss(torch.full((1, 2, 2, 3), 0.5), torch.zeros(1, 2, 2, 3)) == 0.25
    assert mask_loss(torch.ones(1, 2, 2, 1), torch.zeros(1, 2, 2, 1)) == 1


def test_opaque_loss_is_zero_at_both_ends_and_a_quarter_between():
    alpha = torch.tensor([0.0, 1.0, 0.5, 0.5]).view(1, 2, 2, 1)
    assert opaque_loss(alpha) == 0.125


def test_scale_loss_counts_the_excess_of_the_longest_axis():
    scales = torch.tensor([[0.1, 0.01, 0.01], [0.2, 0.3, 0.1]])
    torch.testing.assert_close(scale_loss(scales, 0.1), torch.tensor((0.0 + 2.0**2) / 2))
