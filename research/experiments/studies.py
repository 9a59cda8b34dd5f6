"""The experiments by name: the frontier of quality against cost, the order of draws, the paper's ablations."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from hash3d.cache import PAPER, PRESETS, RELEASED, CacheConfig, DeepCacheConfig, GridConfig, GuardConfig, Hash3DConfig
from hash3d.guidance.targets import ReplayConfig
from hash3d.recipes.adjust import adjust
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.systems.stages import VIEW_ORDER

from .study import Study, Variant

MOST_CUTS = 12
"""Cuts of the U-Nets of Stable Diffusion and Zero123; those of the embedded priors have 9."""
SCALES = (7.5, 100.0)
"""Guidance scales at which the supplement saw predicted noise saturate the colours."""
DEFAULT = Hash3DConfig()
OFTEN_FULL = replace(DEFAULT, reuse_probability=0.7)
"""So that cells come to hold several entries."""


def draws(
    dwell: int, open_cells: int = VIEW_ORDER.active_cells, cells: GridConfig | None = None
) -> Callable[[Recipe], Recipe]:
    """Another order of draws; dwell 1 draws every view anew, as in the paper."""
    order = ViewOrderConfig(
        visits_per_cell=dwell, active_cells=1 if dwell == 1 else open_cells, grid=cells or GridConfig()
    )

    def change(recipe: Recipe) -> Recipe:
        return replace(recipe, stage=replace(recipe.stage, view_order=order))

    return change


DEFAULT_VISITS = VIEW_ORDER.visits_per_cell
DWELLS = (2, 3, 4, 7, 14)
ANEW, HEAVY = draws(1), draws(14)
"""Every view anew; and more reuse than the default's 4 visits of a cell give, where differences show."""
NO_CACHE = Variant(name="no cache", change=ANEW)


def heavy(caches: Mapping[str, CacheConfig]) -> tuple[Variant, ...]:
    """Variants that differ in the cache alone, in the order of much reuse; the first is no cache."""
    return tuple(Variant(name=name, cache=cache, change=HEAVY) for name, cache in {"no cache": None, **caches}.items())


def scaled(scale: float) -> Callable[[Recipe], Recipe]:
    """The order of much reuse under another guidance scale."""
    return lambda recipe: HEAVY(adjust(recipe, guidance_scale=scale))


def on_off() -> Study:
    """The default cache, off and on."""
    return Study(
        name="on_off",
        title="The cache off and on",
        question="What does the default cache cost in quality, and what does it save? Cameras and noise are the same.",
        variants=(Variant(name="no cache"), Variant(name="default", cache=DEFAULT)),
    )


def frontier() -> Study:
    """Quality against the share of shallow passes and against time."""
    often = replace(RELEASED, reuse_probability=0.9)
    every_tenth = DeepCacheConfig(interval=10)
    compared: tuple[tuple[str, CacheConfig | None, float], ...] = (
        ("no cache, 1/2 the steps", None, 1 / 2),
        ("no cache, 1/3 the steps", None, 1 / 3),
        ("deepcache", PRESETS["deepcache"], 1.0),
        ("deepcache 10, 1.2 x steps", every_tenth, 1.2),
        ("released", RELEASED, 1.0),
        ("released, 90 %, 1.2 x steps", often, 1.2),
        ("paper", PAPER, 1.0),
    )
    return Study(
        name="frontier",
        title="Quality against reuse, and against time",
        question="What does reuse cost in quality at equal steps, and what does it give at equal time? Without a cache "
        "and in the methods that we compare with, every view is drawn anew; the default returns to open cells.",
        variants=(
            NO_CACHE,
            *(Variant(name=name, cache=cache, steps_share=share, change=ANEW) for name, cache, share in compared),
            Variant(name="default", cache=DEFAULT),
            *(
                Variant(name=f"dwell {k}", cache=DEFAULT, change=draws(k))
                for k in DWELLS
                if k != VIEW_ORDER.visits_per_cell
            ),
            Variant(name="dwell 14, 1.8 x steps", cache=DEFAULT, steps_share=1.8, change=HEAVY),
        ),
        shown=("no cache", "deepcache 10, 1.2 x steps", "released, 90 %, 1.2 x steps", "default", "dwell 14"),
        plotted=True,
    )


def order() -> Study:
    """Order of draws, dwell, cells, guard."""
    small, wide = (GridConfig(elevation=size, azimuth=size) for size in (10.0, 40.0))
    guards = {
        "warm-up of 30": GuardConfig(warm_up=30),
        "audits, bound 0.4": GuardConfig(audit_every=15, max_error=0.4),
    }
    orders = [(14, 1), (14, 4), (14, 8), (14, 16), (7, 8), (28, 8)]
    return Study(
        name="order",
        title="The order of draws, cells and the guard",
        question="What does an order that returns to open cells cost by itself, and what does reuse cost in it? Cells "
        "are 20 degrees and 100 steps wide, and 8 stand open for 14 visits each, where nothing else is said. The "
        "default has 4 visits.",
        variants=(
            NO_CACHE,
            Variant(name="order alone", change=HEAVY),
            Variant(name="order alone, 1 open cell", change=draws(14, 1)),
            Variant(name="default", cache=DEFAULT),
            *(Variant(name=f"dwell {k}, {n} open", cache=DEFAULT, change=draws(k, n)) for k, n in orders),
            Variant(name="cells of 10 degrees", cache=replace(DEFAULT, grid=small), change=draws(14, 8, small)),
            Variant(name="cells of 40 degrees", cache=replace(DEFAULT, grid=wide), change=draws(14, 8, wide)),
            *(Variant(name=name, cache=replace(DEFAULT, guard=guard), change=HEAVY) for name, guard in guards.items()),
        ),
        shown=("no cache", "order alone", "default", "dwell 14, 1 open", "dwell 28, 8 open"),
    )


def key_hashing() -> Study:
    """Supplement B.1, Figure 11."""
    caches = {
        "whole method": OFTEN_FULL,
        "without key hashing": replace(OFTEN_FULL, store="pool", pool_length=1000),
        "without aggregation": replace(OFTEN_FULL, aggregation="nearest_key"),
    }
    return Study(
        name="key_hashing",
        title="Key hashing and aggregation",
        question="What do the two stages of a lookup give: the key, which finds a cell of near views, and the "
        "similarity of the latents, which weighs its entries (supplement, section B.1, Figure 11)? All look for a "
        "feature with probability 0.7, so that cells hold several; the pool keeps the last 1,000.",
        variants=heavy(caches),
    )


def what_is_kept() -> Study:
    """Supplement B.2, Figure 12."""
    caches = {
        "features": DEFAULT,
        "features, paper's cut": replace(DEFAULT, cut=-2),
        "predicted noise": replace(DEFAULT, mode="noise"),
    }
    at_scales = tuple(
        Variant(name=f"{name}, scale {scale:g}", cache=cache, change=scaled(scale))
        for scale in SCALES
        for name, cache in {"no cache": None, "features": DEFAULT, "predicted noise": caches["predicted noise"]}.items()
    )
    return Study(
        name="what_is_kept",
        title="Keeping features or predicted noise",
        question="Does a stored prediction serve as well as a stored feature, whose shallow layers still see the view "
        "(supplement, section B.2, Figure 12)? The prior's own guidance scale is 2, and the supplement saw saturated "
        "colours.",
        variants=(*heavy(caches), *at_scales),
        shown=("no cache", "features", *(item.name for item in at_scales[-3:])),
    )


def reuse_layer() -> Study:
    """Supplement B.3, Figure 13: every cut that the U-Net has."""
    cuts = {f"cut {cut}": replace(DEFAULT, cut=cut) for cut in range(MOST_CUTS)}
    return Study(
        name="reuse_layer",
        title="The layer to reuse",
        question="Which layer's feature should be kept (supplement, section B.3, Figure 13)? A larger cut lies nearer "
        "to the output: cheaper, and less exact. The last is the default; the paper's is the one before, i = 10 "
        "of 12.",
        variants=heavy(cuts),
        shown=("no cache", "cut 0", "cut 4", "cut 8", "cut 10"),
        plotted=True,
    )


def probability() -> Study:
    """The chance eta of looking for a feature."""
    values = (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
    caches = {f"{value:g}": replace(DEFAULT, reuse_probability=value) for value in values}
    return Study(
        name="probability",
        title="The reuse probability",
        question="How often should a view look for a stored feature?",
        variants=heavy(caches),
        shown=("no cache", "0.01", "0.1", "0.5", "1"),
    )


def cells() -> Study:
    """Fixed cell sizes against the adaptive grid."""
    adaptive = replace(PAPER, reuse_probability=1.0, max_age=DEFAULT.max_age)
    fixed = {
        f"{grid.azimuth:g} degrees": replace(adaptive, grid=grid, other_grids=())
        for grid in (adaptive.grid, *adaptive.other_grids)
    }
    return Study(
        name="cells",
        title="Fixed cells and the adaptive grid",
        question="How large should a cell be, and does a choice made for each place serve better than one size? Cells "
        "are as wide in diffusion steps as in degrees, as in the paper; 8 cells of 20 degrees are open, for 14 visits.",
        variants=heavy({**fixed, "adaptive": adaptive}),
    )


def queue() -> Study:
    """Entries a bucket."""
    caches = {f"queue {length}": replace(OFTEN_FULL, queue_length=length) for length in (1, 2, 3, 5, 10)}
    return Study(
        name="queue",
        title="The queue length",
        question="How many features should a bucket hold? The probability is 0.7, so that cells come to hold several.",
        variants=heavy(caches),
        shown=("no cache", "queue 1", "queue 3", "queue 5", "queue 10"),
    )


def presets() -> Study:
    """All presets of the cache, as `hash3d generate --preset` runs them."""
    names = [name for name in PRESETS if name != "default"]
    return Study(
        name="presets",
        title="The presets",
        question="What do the paper's settings, its released code, DeepCache and the default give, and how far are the "
        "entries that they use from the views that use them?",
        variants=(
            NO_CACHE,
            *(Variant(name=name, cache=PRESETS[name], change=ANEW) for name in names),
            Variant(name="default", cache=DEFAULT),
        ),
    )


def replayed(**settings: Any) -> Callable[[Recipe], Recipe]:
    """Score distillation gives way to replay."""

    def change(recipe: Recipe) -> Recipe:
        return replace(recipe, stage=replace(recipe.stage, replay=ReplayConfig(**settings)))

    return change


def replay() -> Study:
    """Targets that are fitted many times, and how often they are made."""
    return Study(
        name="replay",
        title="Replay",
        question="How few U-Net passes does a run need if each denoised view is kept and fitted many times?",
        variants=(
            NO_CACHE,
            Variant(name="features reused", cache=DEFAULT),
            Variant(name="replay", change=replayed()),
            Variant(name="every 4", change=replayed(every=4)),
            Variant(name="every 6", change=replayed(every=6)),
            Variant(name="every 12", change=replayed(every=12)),
            Variant(name="with guidance", change=replayed(guidance_scale=2.0)),
        ),
        shown=("no cache", "features reused", "replay", "every 6"),
        plotted=True,
    )


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        on_off(),
        frontier(),
        order(),
        key_hashing(),
        what_is_kept(),
        reuse_layer(),
        probability(),
        cells(),
        queue(),
        presets(),
        replay(),
    )
}
