"""The experiments by name: the paper's ablations (supplement of Hash3D, section B), and on/off."""

import dataclasses

from hash3d.cache import PAPER, PRESETS, Hash3DConfig
from hash3d.training.recipe import Recipe

from .study import Study, Variant

MINI_CUTS = 9
"""Cuts of the embedded priors' U-Net; Stable Diffusion and Zero123 have 12."""
DEFAULT = Hash3DConfig()
TABLE_SHARE = 0.18
"""Share of views for which the default table finds a feature in 300 steps of independent draws."""
NO_CACHE = Variant(name="no cache")


def independent_draws(recipe: Recipe) -> Recipe:
    """Every step draws its view anew, as in the paper."""
    draws = dataclasses.replace(recipe.stage.draws, dwell=1)
    return dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, draws=draws))


def on_off() -> Study:
    """The default cache, off and on."""
    return Study(
        name="on_off",
        title="The cache off and on",
        question="What does the default cache cost in quality, and what does it save?",
        variants=(NO_CACHE, Variant(name="default", cache=PRESETS["default"])),
    )


def key_hashing() -> Study:
    """Supplement B.1, Figure 11."""
    pool = dataclasses.replace(DEFAULT, store="pool", pool_length=1000)
    caches = {
        "no cache": None,
        "whole method": DEFAULT,
        "without key hashing": pool,
        "without key hashing, as rarely": dataclasses.replace(pool, reuse_probability=TABLE_SHARE),
        "without aggregation": dataclasses.replace(DEFAULT, aggregation="nearest_key"),
    }
    return Study(
        name="key_hashing",
        title="Key hashing and aggregation",
        question="What do the two stages of a lookup give: the key, which finds a cell of near views, and the "
        "similarity of the latents, which weighs its entries (supplement, section B.1, Figure 11)? All look for a "
        "feature with the same probability, under independent draws. The pool of the last 1,000 features finds one "
        "whenever it looks; a second pool looks only as often as the table finds.",
        variants=tuple(Variant(name=name, cache=cache, change=independent_draws) for name, cache in caches.items()),
    )


def what_is_kept() -> Study:
    """Supplement B.2, Figure 12."""
    return Study(
        name="what_is_kept",
        title="Keeping features or predicted noise",
        question="Does a stored prediction serve as well as a stored feature, whose shallow layers still see the view "
        "(supplement, section B.2, Figure 12)?",
        variants=(
            NO_CACHE,
            Variant(name="features", cache=DEFAULT),
            Variant(name="predicted noise", cache=dataclasses.replace(DEFAULT, mode="noise")),
        ),
    )


def reuse_layer(num_cuts: int = MINI_CUTS) -> Study:
    """Supplement B.3, Figure 13: every cut of a U-Net with `num_cuts` of them."""
    cuts = [Variant(name=f"cut {cut}", cache=dataclasses.replace(DEFAULT, cut=cut)) for cut in range(num_cuts)]
    return Study(
        name="reuse_layer",
        title="The layer to reuse",
        question="Which layer's feature should be kept (supplement, section B.3, Figure 13)? A larger cut lies nearer "
        "to the output: cheaper, and less exact.",
        variants=(NO_CACHE, *cuts),
        times_passes=True,
    )


def probability() -> Study:
    """The chance eta of looking for a feature."""
    values = (0.01, 0.05, 0.1, 0.3, 0.5, 0.7, 0.9)
    caches = {f"{value:g}": dataclasses.replace(DEFAULT, reuse_probability=value) for value in values}
    return Study(
        name="probability",
        title="The reuse probability",
        question="How often should a view look for a stored feature?",
        variants=(NO_CACHE, *(Variant(name=name, cache=cache) for name, cache in caches.items())),
    )


def cells() -> Study:
    """Fixed cell sizes against the adaptive grid."""
    adaptive = dataclasses.replace(PAPER, reuse_probability=DEFAULT.reuse_probability)
    fixed = {
        f"{grid.azimuth:g} degrees": dataclasses.replace(adaptive, grid=grid, other_grids=())
        for grid in (adaptive.grid, *adaptive.other_grids)
    }
    return Study(
        name="cells",
        title="Fixed cells and the adaptive grid",
        question="How large should a cell be, and does a choice made for each place serve better than one size? Cells "
        "are as wide in diffusion steps as in degrees, as in the paper.",
        variants=(
            NO_CACHE,
            *(Variant(name=name, cache=cache) for name, cache in fixed.items()),
            Variant(name="adaptive", cache=adaptive),
        ),
    )


def queue() -> Study:
    """Entries a bucket."""
    caches = {length: dataclasses.replace(DEFAULT, queue_length=length) for length in (1, 2, 3, 5, 10)}
    return Study(
        name="queue",
        title="The queue length",
        question="How many features should a bucket hold?",
        variants=(NO_CACHE, *(Variant(name=f"queue {length}", cache=cache) for length, cache in caches.items())),
    )


def presets() -> Study:
    """All presets of the cache."""
    names = ("deepcache", "released", "paper", "default")
    return Study(
        name="presets",
        title="The presets",
        question="What do the paper's settings, its released code, DeepCache and the default give?",
        variants=(NO_CACHE, *(Variant(name=name, cache=PRESETS[name]) for name in names)),
    )


STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        on_off(),
        key_hashing(),
        what_is_kept(),
        reuse_layer(),
        probability(),
        cells(),
        queue(),
        presets(),
    )
}
