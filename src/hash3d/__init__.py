"""Fast 3D generation by score distillation: deep diffusion features reused across cameras and timesteps.

In a loop of your own:

    cache = apply_hash3d(unet, Hash3DConfig())
    with cache.view(elevation=e, azimuth=a, radius=r, timestep=t):
        noise_pred = unet(latents, t, encoder_hidden_states=embeddings).sample
"""

from typing import TYPE_CHECKING, Any

from .cache import DeepCacheConfig, FeatureCache, GridConfig, Hash3DConfig

if TYPE_CHECKING:
    from .unet import apply_hash3d, remove_hash3d

__version__ = "0.1.0"
__all__ = [
    "DeepCacheConfig",
    "FeatureCache",
    "GridConfig",
    "Hash3DConfig",
    "apply_hash3d",
    "remove_hash3d",
]


def __getattr__(name: str) -> Any:
    """Load what needs diffusers at its first use."""
    if name in ("apply_hash3d", "remove_hash3d"):
        from . import unet

        return getattr(unet, name)
    raise AttributeError(f"module 'hash3d' has no attribute {name!r}")
