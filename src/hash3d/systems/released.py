"""The released code's cache, with the settings that some systems have of their own there."""

from dataclasses import replace

from hash3d.cache import RELEASED, Hash3DConfig

_BY_SYSTEM = {
    "gaussiandreamer": replace(RELEASED, reuse_probability=0.3),
    # Its delta_t of 20 divides the distance, as the wrong order of the key has it.
    "dreamgaussian": replace(RELEASED, reuse_probability=0.5, grid=replace(RELEASED.grid, radius=20.0)),
}


def released_cache(system: str) -> Hash3DConfig:
    """Return the cache of the released Hash3D (cc48922) in a system: cache_p 0.1, if it has no other there."""
    return _BY_SYSTEM.get(system, RELEASED)
