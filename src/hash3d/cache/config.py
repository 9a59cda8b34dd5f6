"""The settings of a cache, and the presets."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .grid import FIELDS, Grid

if TYPE_CHECKING:
    from .feature_cache import FeatureCache
    from .stores import Store
    from .table import HashTable

Aggregation = Literal["softmax", "softmax_squared", "nearest_key"]
Mode = Literal["feature", "noise"]
GIBIBYTE = 2**30
PRIMES = (73856093, 19349669, 83492791)
"""N1, N2, N3 of the released code (the papers give no values)."""


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """Cell sizes and the hash.

    Args:
        elevation: Cell size in degrees. Larger cells hit more often, from views further off (paper: 10 to 30).
        azimuth: Cell size in degrees. Features age fast with the azimuth: 20 degrees cost a quarter of similarity.
        radius: Cell size in scene units.
        timestep: Cell size in diffusion steps. A feature ages slowly with the timestep, so this can be wide.
        num_buckets: Size of the hash table. Buckets are made when first filled, so a large number costs nothing.
        periodic: Whether azimuths -1 and 359 are one place. The released code has no wrap.
        order: Which field is i, j, k and l of the listing; it only changes which cells collide.
        multipliers: N1, N2 and N3 of the hash; they only change which cells collide.
    """

    elevation: float = 20.0
    azimuth: float = 20.0
    radius: float = 0.1
    timestep: float = 100.0
    num_buckets: int = 2**31 - 1
    periodic: bool = True
    order: tuple[str, str, str, str] = FIELDS
    multipliers: tuple[int, int, int] = PRIMES

    def __post_init__(self) -> None:
        for one in fields(self)[:4]:
            size = getattr(self, one.name)
            if not 1e-3 <= size <= 1e6:
                raise ValueError(f"Expected the cell size {one.name} between 0.001 and 1,000,000, but got {size}.")
        if self.num_buckets < 1:
            raise ValueError(f"Expected at least one bucket, but got num_buckets={self.num_buckets}.")
        if sorted(self.order) != sorted(FIELDS):
            raise ValueError(f"Expected order to name {', '.join(FIELDS)} once each, but got {self.order}.")
        if len(self.multipliers) != 3 or 0 in self.multipliers:
            raise ValueError(f"Expected three multipliers other than 0, but got {self.multipliers}.")

    def build(self) -> Grid:
        """The grid of this configuration."""
        return Grid(self)


RELEASED_GRID = GridConfig(
    timestep=20.0,
    elevation=20.0,
    azimuth=0.1,
    radius=10.0,
    num_buckets=200,
    periodic=False,
    order=("timestep", "elevation", "azimuth", "radius"),
)
"""The released code's key [t, elevation, azimuth, distance] over delta_c = [20, 20, 0.1] and delta_t = 10
(Adamdad/hash3D cc48922, threestudio/utils/hash_table.py)."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """How reuse is watched. By default it is not.

    Args:
        warm_up: Guidance calls at the start that run in full: the first fog changes faster than features keep.
        audit_every: Every so many hits one is spot-checked: the view runs in full too, and the difference is recorded.
            A check costs a full pass (its prediction is used): 20 takes about 5 % of the reuse away. None: no checks.
        max_error: Relative error of the prediction (running mean over spot checks) above which reuse is off; checks go
            on, and when it is below again reuse is on. Needs `audit_every`. None: never off.
        memory: Of the running mean: 0 is the last check alone.
    """

    warm_up: int = 0
    audit_every: int | None = None
    max_error: float | None = None
    memory: float = 0.7

    def __post_init__(self) -> None:
        if self.warm_up < 0:
            raise ValueError(f"Expected a warm-up of at least 0 calls, but got {self.warm_up}.")
        if self.audit_every is not None and self.audit_every < 1:
            raise ValueError(f"Expected audit_every to be at least 1, but got {self.audit_every}.")
        if self.max_error is not None and (self.max_error <= 0.0 or self.audit_every is None):
            raise ValueError(
                f"Expected max_error above 0 and with spot checks, but got {self.max_error} and "
                f"audit_every={self.audit_every}. Set audit_every, say to 20."
            )
        if not 0.0 <= self.memory < 1.0:
            raise ValueError(f"Expected memory to be at least 0.0 and less than 1.0, but got {self.memory}.")


@dataclass(frozen=True, kw_only=True)
class Hash3DConfig:
    """Hash3D (Yang and Wang, CVPR 2025, https://arxiv.org/abs/2404.06091).

    Example: `cache = apply_hash3d(unet, Hash3DConfig(reuse_probability=0.5))`.

    Args:
        reuse_probability: Chance that a view looks for a stored feature (eta of the paper). More is faster; above it
            the share of hits depends on the cells.
        cut: The supplement's reuse layer i: the feature entering up layer i + 1 is kept. Larger is faster and less
            exact. Negative counts from the end: -1 is the last, -2 (the paper's) is i = 10 of the 12 of Stable
            Diffusion and Zero123.
        grid: Cell sizes and the hash.
        other_grids: Further grids, from fine to coarse, in tables beside the first: then the cell that has served best
            decides (the paper's adaptive grid, `AdaptiveTable`).
        gamma: Memory of the running similarity by which one of several grids is chosen; the papers give no value.
        queue_length: Entries a bucket; the oldest leaves.
        aggregation: How a bucket's entries become one feature: blended by the distance of the noisy latents
            (`softmax_squared`: by its square, eq. 6 of arXiv v1), or the nearest key's.
        verify: Use an entry only if its whole cell equals the query's. False: colliding cells are mixed up.
        store: The hash table, or the supplement's pool of the last features without keys.
        pool_length: Entries of the pool.
        mode: Keep the deep feature, or the predicted noise (then a hit runs no U-Net at all, at a loss of quality).
        whole_batch: One coin a call, and one miss makes the whole batch run in full, as in the released code.
        max_age: Guidance calls after which an entry is forgotten; None never. The scene changes while it is optimised:
            in a short run, features of the first fog spoil what comes later.
        max_bytes: Memory that the entries may hold; never exceeded, the oldest leave first. A new entry is copied
            before they do. A checkpoint is a copy on the host while it is written.
        guard: Warm-up, spot checks, and a bound on their error.
        seed: Of the cache's own generator.
    """

    reuse_probability: float = 1.0
    cut: int = -1
    grid: GridConfig = field(default_factory=GridConfig)
    other_grids: tuple[GridConfig, ...] = ()
    gamma: float = 0.9
    queue_length: int = 3
    aggregation: Aggregation = "softmax"
    verify: bool = True
    store: Literal["table", "pool"] = "table"
    pool_length: int = 1000
    mode: Mode = "feature"
    whole_batch: bool = False
    max_age: int | None = 120
    max_bytes: int = 2 * GIBIBYTE
    guard: GuardConfig = field(default_factory=GuardConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.0 <= self.reuse_probability <= 1.0:
            raise ValueError(f"Expected reuse_probability to be between 0.0 and 1.0, but got {self.reuse_probability}.")
        if not 0.0 <= self.gamma < 1.0:
            raise ValueError(f"Expected gamma to be at least 0.0 and less than 1.0, but got {self.gamma}.")
        for name in ("queue_length", "pool_length", "max_age", "max_bytes"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"Expected {name} to be at least 1, but got {getattr(self, name)}.")

    def build(self) -> "FeatureCache":
        """An empty cache of this configuration."""
        from .feature_cache import FeatureCache

        return FeatureCache(self)

    def build_store(self) -> "Store":
        """An empty table, adaptive table or pool."""
        if self.store == "pool":
            # A plain queue of the last features, searched by latents alone: one bucket in which cells do not count.
            one = GridConfig(num_buckets=1)
            return self._build_table(one, queue_length=self.pool_length, nearest=False, verify=False)
        if self.other_grids:
            from .stores.adaptive import AdaptiveTable

            tables = [self._build_table(grid) for grid in (self.grid, *self.other_grids)]
            return AdaptiveTable(tables, gamma=self.gamma, max_bytes=self.max_bytes)
        return self._build_table(self.grid)

    def _build_table(self, grid: GridConfig, **others: Any) -> "HashTable":
        from .table import HashTable

        nearest = self.aggregation == "nearest_key"
        given = {"queue_length": self.queue_length, "nearest": nearest, "verify": self.verify} | others
        return HashTable(grid.build(), max_bytes=self.max_bytes, **given)

    def capacity(self, views: int) -> int:
        """Entries that can come together, whatever their size, if every call has so many views."""
        if self.store == "pool":
            capacity = self.pool_length
        else:
            capacity = sum(grid.num_buckets * self.queue_length for grid in (self.grid, *self.other_grids))
        return capacity if self.max_age is None else min(capacity, (self.max_age + 1) * views)


@dataclass(frozen=True, kw_only=True)
class DeepCacheConfig:
    """DeepCache (Ma et al., CVPR 2024, https://arxiv.org/abs/2312.00858) on the same mechanism, as the baseline.

    Args:
        interval: Every so many calls run in full; the others take the last feature, whatever the view.
        cut: As in `Hash3DConfig`.
        max_bytes: Memory that the entries may hold.
    """

    reuse_probability: ClassVar[float] = 1.0
    aggregation: ClassVar[Aggregation] = "softmax"
    mode: ClassVar[Mode] = "feature"
    whole_batch: ClassVar[bool] = False
    max_age: ClassVar[int | None] = None
    guard: ClassVar[GuardConfig] = GuardConfig()
    seed: ClassVar[int] = 0

    interval: int = 4
    cut: int = -2
    max_bytes: int = 2 * GIBIBYTE

    def __post_init__(self) -> None:
        if self.interval < 1:
            raise ValueError(f"Expected the DeepCache interval to be at least 1, but got {self.interval}.")

    def build(self) -> "FeatureCache":
        """An empty cache of this configuration."""
        from .feature_cache import FeatureCache

        return FeatureCache(self)

    def build_store(self) -> "Store":
        """The last feature of each row."""
        from .stores.last_feature import LastFeature

        return LastFeature(interval=self.interval, max_bytes=self.max_bytes)

    def capacity(self, views: int) -> int:
        """One entry a view."""
        return views


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
