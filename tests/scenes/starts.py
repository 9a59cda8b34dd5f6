"""Models to start from."""

import torch

from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.representations.nerf import HashGridNerfConfig, Nerf
from tests.tiny_recipes import GRID

SURFACE = IsosurfaceConfig(level=5.0, resolution=40)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def ball_field(**changes) -> Nerf:
    """A field whose density is its blob, nearly: softplus(10 (1 - |x| / 0.25)), which is 5 at half of 0.25."""
    config = HashGridNerfConfig(encoding=GRID, hidden_width=8, radius=0.6, blob_std=0.25, **changes)
    field = config.build(seeded())
    field.set_step(4)  # three of the four levels
    return field


def with_noise(model):
    """Every parameter moved a little, so that none has its start's value."""
    generator = seeded(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model
