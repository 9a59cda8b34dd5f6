"""Fast 3D generation by score distillation: deep diffusion features reused across cameras and timesteps.

In a loop of your own::

    cache = apply_hash3d(unet, Hash3DConfig())
    with torch.no_grad(), cache.view(elevation=e, azimuth=a, radius=r, timestep=t):
        noise_pred = unet(latents, t, encoder_hidden_states=embeddings).sample
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .cache import DeepCacheConfig, GridConfig, Hash3DConfig

if TYPE_CHECKING:
    from .cache import FeatureCache
    from .unet import apply_hash3d, remove_hash3d

__version__ = "0.2.0"
__all__ = [
    "DeepCacheConfig",
    "FeatureCache",
    "GridConfig",
    "Hash3DConfig",
    "apply_hash3d",
    "remove_hash3d",
]


_LOADED_LATE = {"FeatureCache": "hash3d.cache", "apply_hash3d": "hash3d.unet", "remove_hash3d": "hash3d.unet"}


def __getattr__(name: str) -> Any:
    """Load what needs torch and diffusers at its first use."""
    if name not in _LOADED_LATE:
        raise AttributeError(f"module 'hash3d' has no attribute {name!r}")
    return getattr(import_module(_LOADED_LATE[name]), name)
