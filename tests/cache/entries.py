"""Entries whose origin can be told from their numbers."""

import torch

from hash3d.cache import Hash3DConfig, Key
from hash3d.cache.blend import blend_entries
from hash3d.cache.calls import Entry


def key(elevation=0.0, azimuth=0.0, radius=1.0, timestep=0.0):
    return Key(elevation=float(elevation), azimuth=float(azimuth), radius=float(radius), timestep=float(timestep))


def make_pool(*, length, max_bytes):
    """The store without keys."""
    return Hash3DConfig(store="pool", pool_length=length, max_bytes=max_bytes).build_store()


def entry(step=0, numbers=4, latents=0.0, place=None, dtype=torch.float32):
    """An entry of `4 + 4 * numbers` bytes whose feature is filled with its step."""
    feature = torch.full((1, numbers), float(step), dtype=dtype)
    return make(place or key(), torch.full((1, 1, 1), float(latents)), feature, step)


def make(key, latents, feature, step):
    """An entry that counts the bytes of its tensors."""
    return Entry(key=key, latents=latents, feature=feature, step=step, num_bytes=latents.nbytes + feature.nbytes)


def insert(store, entry, row=0, identity=""):
    """Keep an entry where its key falls."""
    return store.insert(entry, store.locate(entry.key, row, identity))


def lookup(store, key, row=0, identity=""):
    """What serves a key."""
    return store.lookup(store.locate(key, row, identity), key)


def feature_of(entries, latents=None, squared=False):
    """What a view with these latents gets from what a lookup found for it, [S, ...]."""
    return blend_entries(LATENTS if latents is None else latents, entries, squared)


LATENTS = torch.zeros(1, 1, 1)
