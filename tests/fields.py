"""Fields with a known image, and how tests of rendering look at them."""

import torch

from hash3d.cameras import Cameras
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import FieldSamples, HashGridNerfConfig

DTYPE = torch.float64
EXACT = {"min_alpha": 0.0, "min_transmittance": 0.0}


class Scene:
    """A field from a function of positions to densities; red, unless a function of positions says otherwise."""

    channels = 3

    def __init__(self, density, radius=0.6, color=None, normal=None):
        self.density, self.radius, self.color, self.normal = density, radius, color, normal

    def query(self, points, *, normals=False):
        red = torch.tensor([1.0, 0.0, 0.0]).to(points).expand(len(points), 3)
        return FieldSamples(
            density=self.density(points),
            color=red if self.color is None else self.color(points),
            normal=self.normal(points) if normals else None,
        )


def fog(strength: float, radius: float = 0.6) -> Scene:
    return Scene(lambda points: torch.full_like(points[:, 0], strength), radius)


def ball(strength: float, size: float = 0.4, **more) -> Scene:
    return Scene(lambda points: strength * (points.norm(dim=-1) < size).to(points), **more)


def view(azimuth=0.0, elevation=0.0, size=17, radius=1.5, fov_y=49.1) -> Cameras:
    return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=radius, fov_y=fov_y, size=size)


def render(field, cameras, samples=64, back=None, **more):
    constants = EXACT | {key: more.pop(key) for key in EXACT if key in more}
    background = torch.zeros(len(cameras), field.channels, dtype=DTYPE) if back is None else back
    return VolumeRendererConfig(samples_per_ray=samples, **constants).build()(field, cameras, background, **more)


def hash_grid_scene(**fields):
    encoding = HashGridConfig(levels=4, log2_entries=11, base_resolution=4, finest_resolution=32)
    config = HashGridNerfConfig(encoding=encoding, radius=0.6, blob_std=0.3, **fields)
    return config.build(torch.Generator().manual_seed(0))
