"""The method: the grid, the table, the aggregation, and when to reuse. Imports torch and nothing of ours."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .config import PAPER, PRESETS, RELEASED, CacheConfig, DeepCacheConfig, GridConfig, GuardConfig, Hash3DConfig
from .grid import Key

if TYPE_CHECKING:
    from .feature_cache import FeatureCache
    from .keeping import CacheStatistics
    from .table import HashTable

__all__ = [
    "PAPER",
    "PRESETS",
    "RELEASED",
    "CacheConfig",
    "CacheStatistics",
    "DeepCacheConfig",
    "FeatureCache",
    "GridConfig",
    "GuardConfig",
    "Hash3DConfig",
    "HashTable",
    "Key",
]

_NEED_TORCH = {"CacheStatistics": "keeping", "FeatureCache": "feature_cache", "HashTable": "table"}


def __getattr__(name: str) -> Any:
    """Load what needs torch at its first use; configurations do not."""
    if name not in _NEED_TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_NEED_TORCH[name]}"), name)
