"""What a scene is made of: parameters, their start, their growth. Nothing here renders."""

from .densify import Densifier, DensifyConfig, DensifyReport
from .gaussians import Gaussians, GaussiansConfig, GaussianTensors, Splats

__all__ = [
    "Densifier",
    "DensifyConfig",
    "DensifyReport",
    "GaussianTensors",
    "Gaussians",
    "GaussiansConfig",
    "Splats",
]
