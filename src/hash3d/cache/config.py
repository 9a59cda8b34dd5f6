"""The settings of a cache, and the presets."""

from dataclasses import dataclass, field
from typing import Literal

from .feature_cache import FeatureCache, Mode
from .grid import RELEASED_GRID, GridConfig
from .guard import GuardConfig
from .memory.slots import Storage
from .store import Store
from .stores.adaptive import AdaptiveTable
from .stores.last_feature import LastFeature
from .stores.pool import Pool
from .table import Aggregation, HashTable

GIBIBYTE = 2**30


@dataclass(frozen=True, kw_only=True)
class Hash3DConfig:
    """Hash3D (Yang and Wang, CVPR 2025, https://arxiv.org/abs/2404.06091).

    Example: `cache = apply_hash3d(unet, Hash3DConfig(reuse_probability=0.5))`.
    """

    reuse_probability: float = 1.0
    """Chance that a view looks for a stored feature (eta of the paper). More is faster; above it the share of hits
    depends on the cells."""
    cut: int = -1
    """The supplement's reuse layer i: the feature entering up layer i + 1 is kept. Larger is faster and less exact.
    Negative counts from the end: -1 is the last, -2 (the paper's) is i = 10 of the 12 of Stable Diffusion and Zero123.
    """
    grid: GridConfig = field(default_factory=GridConfig)
    """Cell sizes and the hash."""
    other_grids: tuple[GridConfig, ...] = ()
    """Further grids, from fine to coarse, in tables beside the first: then the cell that has served best decides (the
    paper's adaptive grid, `AdaptiveTable`)."""
    gamma: float = 0.9
    """Memory of the running similarity by which one of several grids is chosen; the papers give no value."""
    queue_length: int = 3
    """Entries a bucket; the oldest leaves."""
    aggregation: Aggregation = "softmax"
    """How a bucket's entries become one feature: blended by similarity of the noisy latents, or the nearest key's."""
    verify: bool = True
    """Use an entry only if its whole cell equals the query's. False: colliding cells are mixed up."""
    store: Literal["table", "pool"] = "table"
    """The hash table, or the supplement's pool of the last features without keys."""
    pool_length: int = 1000
    """Entries of the pool."""
    mode: Mode = "feature"
    """Keep the deep feature, or the predicted noise (then a hit runs no U-Net at all, at a loss of quality)."""
    whole_batch: bool = False
    """One coin a call, and one miss makes the whole batch run in full, as in the released code."""
    max_age: int | None = 120
    """Guidance calls after which an entry is forgotten; None never. The scene changes while it is optimised: in a short
    run, features of the first fog spoil what comes later."""
    max_bytes: int = 2 * GIBIBYTE
    """Memory that the entries may hold; never exceeded, the oldest leave first. It is allocated with the first entry,
    no more than `max_age` lets come together; on a CPU the system counts what is in use. A checkpoint is a copy on the
    host while it is written."""
    storage: Storage = "full"
    """Features in their own dtype, or in 8 bits with a scale for each channel: twice as many of half precision in the
    same memory, each number up to half a step of its channel's 127 off. With the embedded prior (mini-zero123, 24 hits
    at each of the last three cuts) that moves a prediction by 0.0003 to 0.0006 of its norm; reuse moves it by 0.2."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """Warm-up, audits, and a bound on their error."""
    seed: int = 0
    """Of the cache's own generator."""

    def __post_init__(self) -> None:
        if not 0.0 <= self.reuse_probability <= 1.0:
            raise ValueError(f"Expected reuse_probability to be between 0.0 and 1.0, but got {self.reuse_probability}.")
        if not 0.0 <= self.gamma < 1.0:
            raise ValueError(f"Expected gamma to be at least 0.0 and less than 1.0, but got {self.gamma}.")
        for name in ("queue_length", "pool_length", "max_age", "max_bytes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"Expected {name} to be at least 1, but got {getattr(self, name)}.")

    def build(self) -> FeatureCache:
        """An empty cache of this configuration."""
        return FeatureCache(
            self._build_store(),
            cut=self.cut,
            mode=self.mode,
            reuse_probability=self.reuse_probability,
            whole_batch=self.whole_batch,
            max_age=self.max_age,
            max_bytes=self.max_bytes,
            seed=self.seed,
            storage=self.storage,
            guard=self.guard.build(),
        )

    def _build_store(self) -> Store:
        if self.store == "pool":
            return Pool(length=self.pool_length, max_bytes=self.max_bytes)
        grids = (self.grid, *self.other_grids)
        tables = [
            HashTable(
                grid.build(),
                queue_length=self.queue_length,
                aggregation=self.aggregation,
                verify=self.verify,
                max_bytes=self.max_bytes // len(grids),
            )
            for grid in grids
        ]
        return AdaptiveTable(tables, gamma=self.gamma) if self.other_grids else tables[0]


@dataclass(frozen=True, kw_only=True)
class DeepCacheConfig:
    """DeepCache (Ma et al., CVPR 2024, https://arxiv.org/abs/2312.00858) on the same mechanism, as the baseline."""

    interval: int = 4
    """Every so many calls run in full; the others take the last feature, whatever the view."""
    cut: int = -2
    """As in `Hash3DConfig`."""
    max_bytes: int = 2 * GIBIBYTE
    """Memory that the entries may hold."""

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"Expected the DeepCache interval to be at least 1, but got {self.interval}.")

    def build(self) -> FeatureCache:
        """An empty cache of this configuration."""
        return FeatureCache(
            LastFeature(interval=self.interval, max_bytes=self.max_bytes),
            cut=self.cut,
            mode="feature",
            reuse_probability=1.0,
            whole_batch=False,
            max_age=None,
            max_bytes=self.max_bytes,
            seed=0,
        )


CacheConfig = Hash3DConfig | DeepCacheConfig

_PAPER_GRIDS = tuple(
    GridConfig(
        azimuth=angle, elevation=angle, radius=radius, timestep=angle,
        order=("azimuth", "elevation", "radius", "timestep"),
    )
    for angle, radius in ((10.0, 0.1), (20.0, 0.15), (30.0, 0.2))
)  # fmt: skip

PAPER = Hash3DConfig(reuse_probability=0.1, cut=-2, grid=_PAPER_GRIDS[0], other_grids=_PAPER_GRIDS[1:], max_age=None)
"""The text's order of fields, its three cell sizes, queue 3, eta 0.1 (arXiv 2404.06091v1, sections 4 and 5)."""

RELEASED = Hash3DConfig(reuse_probability=0.1, cut=-2, grid=RELEASED_GRID, verify=False, whole_batch=True, max_age=None)
"""What the released code does (cc48922): fields in the wrong order, 200 buckets, unchecked collisions, one coin a call.
A "hit" is the feature of a nearly random earlier view. For comparison."""

PRESETS: dict[str, CacheConfig] = {
    "default": Hash3DConfig(),
    "paper": PAPER,
    "released": RELEASED,
    "deepcache": DeepCacheConfig(),
}
