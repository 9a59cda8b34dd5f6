"""What a scene is made of: parameters, their start, their growth. Nothing here renders."""

from hash3d.representations.densify import Densifier, DensifyConfig, DensifyReport
from hash3d.representations.gaussians import Gaussians, GaussiansConfig, GaussianTensors, Splats

__all__ = [
    "Densifier",
    "DensifyConfig",
    "DensifyReport",
    "GaussianTensors",
    "Gaussians",
    "GaussiansConfig",
    "Splats",
]
