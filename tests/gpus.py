"""What a GPU must have for some tests."""

import pytest
import torch

from hash3d.diffusion.eight_bits import multiplies_eight_bits

HAS_EIGHT_BITS = torch.cuda.is_available() and multiplies_eight_bits(torch.device("cuda"))

needs_eight_bits = pytest.mark.skipif(not HAS_EIGHT_BITS, reason="no products of eight bits")
"""Marks a test of products of numbers of eight bits."""
