"""Gaussians that are written and read again."""

import pytest
import torch

from hash3d.representations.gaussians import PARAMETER_NAMES, Gaussians, GaussiansConfig


@pytest.fixture
def gaussians() -> Gaussians:
    generator = torch.Generator().manual_seed(0)
    scene = GaussiansConfig(num_points=17).build(generator)
    for name in PARAMETER_NAMES:
        parameter = getattr(scene, name)
        parameter.data = torch.randn(parameter.shape, generator=generator)
    return scene
