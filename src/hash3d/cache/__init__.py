"""The method: the grid, the table, the aggregation, and when to reuse. Imports torch and nothing of ours."""

from .config import PAPER, PRESETS, RELEASED, CacheConfig, DeepCacheConfig, GridConfig, GuardConfig, Hash3DConfig
from .feature_cache import FeatureCache
from .grid import Key
from .table import HashTable

__all__ = [
    "PAPER",
    "PRESETS",
    "RELEASED",
    "CacheConfig",
    "DeepCacheConfig",
    "FeatureCache",
    "GridConfig",
    "GuardConfig",
    "Hash3DConfig",
    "HashTable",
    "Key",
]
