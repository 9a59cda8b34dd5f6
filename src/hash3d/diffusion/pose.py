"""The relative pose of a view, as Zero123 reads it."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

PoseVariant = Literal["xl", "stable"]
NUM_POSE_FEATURES = 14


def pose_numbers(
    *,
    elevation: Float[Tensor, " B"],
    relative_azimuth: Float[Tensor, " B"],
    relative_radius: Float[Tensor, " B"],
    reference_elevation: float | Float[Tensor, " B"],
    variant: PoseVariant,
) -> Float[Tensor, "B 4"]:
    """The four pose numbers in radians: [polar - polar_ref, sin(d azimuth), cos(d azimuth), fourth]; degrees in.

    The polar angle is 90 - elevation. The fourth is the change of distance for `xl` (zero123, ldm/data/simple.py
    get_T) and the reference view's polar angle for `stable` (threestudio 28d9d80, stable_zero123_guidance.py).
    """
    reference = torch.as_tensor(reference_elevation, dtype=elevation.dtype).expand_as(elevation)
    azimuth = torch.deg2rad(relative_azimuth)
    fourth = torch.deg2rad(90.0 - reference) if variant == "stable" else relative_radius
    return torch.stack([torch.deg2rad(reference - elevation), azimuth.sin(), azimuth.cos(), fourth], dim=-1)


def pose_features(pose: Float[Tensor, "B 4"]) -> Float[Tensor, "B 14"]:
    """Smooth features of the pose numbers for the class embedding: four harmonics of the azimuth, both polar angles."""
    azimuth = torch.atan2(pose[:, 1], pose[:, 2])
    harmonics = azimuth[:, None] * torch.arange(1, 5, device=pose.device, dtype=pose.dtype)
    polar = pose[:, [0, 3]]
    return torch.cat([harmonics.sin(), harmonics.cos(), polar, polar.sin(), polar.cos()], dim=-1)
