"""How a guidance call grows with the views of a step, and with the entries of the table.

Usage:
    python -m research.benchmarks.scaling --write docs/benchmarks/scaling.md
    python -m research.benchmarks.scaling --tiny --device cpu --repeats 3 --batches 1 2 --entries 10 100

A call is what a step asks of a diffusion model: encode, noise, the U-Net through the cache, and the gradient on the
picture. "reused": every view finds three entries; "full": none does, and each is inserted. Models of random weights.
"""

import argparse
import gc
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch

from hash3d.bench.measure import with_shared_weights
from hash3d.cache import FeatureCache, Hash3DConfig, Key
from hash3d.cameras import Cameras
from hash3d.diffusion.random_weights import ZERO123
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.guidance.latent_guidance import LatentGuidance
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123Guidance, Zero123GuidanceConfig
from hash3d.table.report import markdown_table
from hash3d.unet import apply_hash3d

from .random_models import PROMPT, Prior, add_options, cell, check, load, publish, timed

Row = dict[str, Any]
TITLE = "Scaling"
QUESTION = "How does the time of a guidance call grow with the views of a step, and with the entries of the table?"
KINDS = {"full": 0.0, "reused": 1.0}
"""Reuse probability by kind of call."""
RADIUS, TIMESTEP = 1.55, 550
ENTRIES = 3
"""Calls of one view before the measured ones: a bucket's length."""
GIBIBYTE = 2**30


def guidance(prior: Prior, engine: str, config: Hash3DConfig) -> tuple[LatentGuidance[Any], FeatureCache]:
    """Score distillation on modules of its own around the prior's weights, with an empty cache."""
    own = with_shared_weights(prior)
    own.use_engine(engine)
    cache = apply_hash3d(own.unet, config, engine=engine)
    tools: dict[str, Any] = {"generator": torch.Generator().manual_seed(0), "cache": cache}
    if not isinstance(own, Zero123Prior):
        return StableDiffusionGuidance(StableDiffusionGuidanceConfig(), own, PROMPT, **tools), cache
    picture = torch.zeros(3, own.image_size, own.image_size)
    where = {"reference_elevation": 5.0, "reference_radius": RADIUS}
    return Zero123Guidance(Zero123GuidanceConfig(), own, picture, **where, **tools), cache


def caller(prior: Prior, guide: LatentGuidance[Any], views: int) -> Callable[[], torch.Tensor]:
    """The call of some views, each in a cell of its own."""
    size = prior.image_size
    cameras = Cameras.orbit(
        elevation=10.0,
        azimuth=[360.0 / views * view + 1.0 for view in range(views)],
        radius=RADIUS,
        fov_y=40.0,
        size=size,
    )
    picture = torch.rand(views, size, size, 3, generator=torch.Generator().manual_seed(0)).to(prior.device)
    picture.requires_grad_()
    timesteps = torch.full((views,), TIMESTEP)

    def call() -> torch.Tensor:
        (gradient,) = torch.autograd.grad(guide(picture, cameras, timesteps).loss, picture)
        return gradient

    return call


def first_calls(call: Callable[[], torch.Tensor], cache: FeatureCache, probability: float) -> None:
    """Calls in full until the cells that are asked for have all the entries that a bucket takes."""
    cache.reuse_probability = 0.0
    for _ in range(ENTRIES):
        call()
    cache.reuse_probability = probability


def forget() -> None:
    """Let go of the memory of the call before."""
    gc.collect()  # A hook and its U-Net refer to each other.
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def batch_rows(name: str, prior: Prior, options: argparse.Namespace) -> list[Row]:
    """Calls of 1, 2, 4, 8 views."""
    rows = []
    for engine in options.engines:
        for kind, probability in KINDS.items():
            for views in options.batches:
                guide, cache = guidance(prior, engine, Hash3DConfig())
                call = caller(prior, guide, views)
                first_calls(call, cache, probability)
                ms = timed(call, prior.device, options.repeats)
                rows.append({"model": name, "engine": engine, "kind": kind, "views": views, "ms": asdict(ms)})
                print(name, engine, kind, views, "views", cell(ms), flush=True)
                del guide, cache, call
                forget()
    return rows


def entry_rows(name: str, prior: Prior, options: argparse.Namespace) -> list[Row]:
    """Calls of one view with more and more in the table, in other cells than the call's."""
    rows = []
    for engine in options.engines:
        for kind, probability in KINDS.items():
            for entries in options.entries:
                budget = int(options.max_gib * GIBIBYTE)
                config = Hash3DConfig(max_age=None, max_bytes=budget)
                guide, cache = guidance(prior, engine, config)
                call = caller(prior, guide, 1)
                first_calls(call, cache, probability)
                if entries * cache.store.entries()[0].num_bytes > budget:
                    print(f"{name}: {entries} entries need more than --max-gib {options.max_gib}", flush=True)
                    continue
                crowd(cache, entries)
                ms = timed(call, prior.device, options.repeats)
                held = len(cache.store.entries())
                rows.append({"model": name, "engine": engine, "kind": kind, "entries": held, "ms": asdict(ms)})
                print(name, engine, kind, held, "entries", cell(ms), flush=True)
                del guide, cache, call
                forget()
    return rows


@torch.no_grad()
def crowd(cache: FeatureCache, entries: int) -> None:
    """Fill the table to a number of entries, each in a cell that no call visits."""
    entry = cache.store.entries()[0]
    latents, feature = entry.latents.clone()[None], entry.feature.clone()[:, None]
    for number in range(entries - len(cache.store.entries())):
        key = Key(elevation=-40.0, azimuth=0.0, radius=2.05 + 0.1 * number, timestep=TIMESTEP)
        cache.insert(cache.locate([key]), latents, feature)


def table(rows: list[Row], by: str) -> list[str]:
    """One line an engine and kind of call, one column a number of views or entries."""
    columns = sorted({row[by] for row in rows})
    lines: dict[tuple[str, ...], dict[int, str]] = {}
    for row in rows:
        ms = row["ms"]
        shown = f"{ms['median']:.1f} ({ms['first_quartile']:.1f}-{ms['third_quartile']:.1f})"
        lines.setdefault((row["model"], row["engine"], row["kind"]), {})[row[by]] = shown
    heads = ("model", "engine", "call", *(f"{column:,} {by}" for column in columns))
    return markdown_table(
        heads, [[*name, *(found.get(column, "-") for column in columns)] for name, found in lines.items()], words=3
    )


def main() -> None:
    """Measure each prior, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, repeats=20, priors=(ZERO123,))
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--entries", nargs="+", type=int, default=[10, 100, 1_000, 10_000])
    parser.add_argument("--max-gib", type=float, default=16.0, help="memory that a table may take")
    options = parser.parse_args()
    check(options, ("eager", "graph"))
    rows: list[Row] = []
    for name in options.priors:
        prior = load(name, options)
        rows += batch_rows(name, prior, options) + entry_rows(name, prior, options)
        del prior
    lines = [
        "Milliseconds of a guidance call.",
        "",
        *table([row for row in rows if "views" in row], "views"),
        "",
        *table([row for row in rows if "entries" in row], "entries"),
    ]
    publish(options, TITLE, QUESTION, rows, lines)


if __name__ == "__main__":
    main()
