"""Entries whose origin can be told from their numbers."""

import torch

from hash3d.cache.blend import read
from hash3d.cache.grid import Key
from hash3d.cache.table import Entry


def key(elevation=0.0, azimuth=0.0, radius=1.0, timestep=0.0):
    return Key(elevation=float(elevation), azimuth=float(azimuth), radius=float(radius), timestep=float(timestep))


def entry(step=0, numbers=4, latents=0.0, place=None, dtype=torch.float32):
    """An entry of `4 + 4 * numbers` bytes whose feature is filled with its step."""
    return Entry(
        key=place or key(),
        latents=torch.full((1, 1, 1), float(latents)),
        feature=torch.full((1, numbers), float(step), dtype=dtype),
        step=step,
    )


def feature_of(found, latents=None):
    """What a view with these latents gets from what a lookup found for it, [S, ...]."""
    return read([LATENTS if latents is None else latents], [found.entries])[:, 0]


LATENTS = torch.zeros(1, 1, 1)
