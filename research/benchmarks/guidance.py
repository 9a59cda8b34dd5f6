"""The parts of a guidance call alone: the U-Net's passes, the encoder's forward and backward, and the cache's own cost.

Usage:
    python -m research.benchmarks.guidance --write docs/benchmarks/guidance.md
    python -m research.benchmarks.guidance --tiny --device cpu --repeats 3

Full-size models of random weights, one view with and without its condition. Every engine runs the same weights on the
same inputs, in turn; beside its time stands how far its result is from the first engine's.
"""

import argparse
from dataclasses import asdict
from typing import Any

import torch

from hash3d.bench.measure import with_shared_weights
from hash3d.cache import Hash3DConfig
from hash3d.diffusion.random_weights import SD_21, ZERO123
from hash3d.fast.engine import UNetEngine
from hash3d.table.report import markdown_table
from hash3d.unet.partial_unet import PartialUNet

from .random_models import Prior, add_options, cell, check, load, pair, publish, timed

Row = dict[str, Any]
TITLE = "The parts of a guidance call"
QUESTION = "What do the U-Net's passes, the encoder and the cache cost on each engine?"
SIZES = (512, 256)
TINY_SIZES = (64, 32)
ENTRIES = 3
"""Of the cell that is read."""


@torch.no_grad()
def unet_rows(name: str, prior: Prior, options: argparse.Namespace) -> list[Row]:
    """A full pass and shallow ones on each engine; a full pass leaves its feature."""
    inputs, rows = pair(prior), list[Row]()
    exact: dict[str, torch.Tensor] = {}
    for engine in options.engines:
        unet = with_shared_weights(prior).unet
        kind_of_passes = PartialUNet if engine == "eager" else UNetEngine
        engines = [kind_of_passes(unet, cut) for cut in range(PartialUNet(unet, 0).num_cuts)]
        calls: dict[str, Any] = {"full": lambda: engines[-1].full_pass(**inputs)[0][0]}  # noqa: B023
        for cut, passes in enumerate(engines):
            _, feature = PartialUNet(prior.unet, cut).full_pass(**inputs)
            calls[f"shallow at i = {cut}"] = lambda p=passes, feature=feature: p.shallow_pass(feature, **inputs)[0]
        for kind, call in calls.items():
            exact.setdefault(kind, call().float().clone())
            ms = timed(call, prior.device, options.repeats)
            error = float((call().float() - exact[kind]).norm() / exact[kind].norm())
            rows.append({"model": name, "part": f"U-Net, {kind}", "engine": engine, "ms": asdict(ms), "error": error})
            print(name, kind, engine, cell(ms), flush=True)
    return rows


def encoder_rows(prior: Prior, options: argparse.Namespace) -> list[Row]:
    """The encoder and its gradient on the picture, at each size and on each engine."""
    rows = []
    for size in TINY_SIZES if options.tiny else SIZES:
        exact = None
        generator = torch.Generator().manual_seed(0)
        picture = torch.rand((1, 3, size, size), generator=generator).to(prior.device).requires_grad_()
        cotangent = None
        for engine in options.engines:
            own = with_shared_weights(prior)
            own.use_engine(engine)
            cotangent = torch.randn_like(own.encode(picture)) if cotangent is None else cotangent

            def gradient(own: Prior = own, picture: Any = picture, cotangent: Any = cotangent) -> torch.Tensor:
                (found,) = torch.autograd.grad(own.encode(picture), picture, cotangent)
                return found

            exact = gradient().float().clone() if exact is None else exact
            ms = timed(gradient, prior.device, options.repeats)
            cosine = torch.cosine_similarity(gradient().float().flatten(), exact.flatten(), dim=0)
            row = {"model": "VAE", "part": f"encoder, {size}, and gradient", "engine": engine, "ms": asdict(ms)}
            rows.append({**row, "cosine": float(cosine)})
            print("encoder", size, engine, cell(ms), flush=True)
    return rows


@torch.no_grad()
def cache_rows(name: str, prior: Prior, full: dict[str, float], options: argparse.Namespace) -> list[Row]:
    """Key and lookup, the blend of three entries, and an insert, beside a full pass on the fastest engine."""
    inputs = pair(prior)
    latents, cut = inputs["sample"][:1].clone(), Hash3DConfig.cut
    _, feature = PartialUNet(prior.unet, cut).full_pass(**inputs)
    features = feature.unflatten(0, (-1, 1)).clone()
    cache = Hash3DConfig(max_age=None).build()
    with cache.view(elevation=10.0, azimuth=30.0, radius=1.5, timestep=500):
        view = cache.current_view
        for _ in range(ENTRIES):
            cache.insert(cache.locate(view.keys(500.0)), latents, features)
        queries = cache.lookup(view.keys(500.0))
        assert queries[0].reuses
        calls = {
            "key and lookup": lambda: cache.lookup(view.keys(500.0)),
            f"blend of {ENTRIES}": lambda: cache.read(queries, latents),
            "insert": lambda: cache.insert(queries, latents, features),
        }
        times = {kind: timed(call, prior.device, options.repeats) for kind, call in calls.items()}
    shares = {"a hit": ("key and lookup", f"blend of {ENTRIES}"), "a miss": ("key and lookup", "insert")}
    rows: list[Row] = [{"model": name, "part": f"cache, {kind}", "ms": asdict(ms)} for kind, ms in times.items()]
    for kind, parts in shares.items():
        total = sum(times[part].median for part in parts)
        share = {engine: total / ms for engine, ms in full.items()}
        rows.append({"model": name, "part": f"cache, {kind}", "share_of_full": share, "median": total})
    return rows


def tables(rows: list[Row], engines: list[str]) -> list[str]:
    """One line a part, one column an engine."""
    parts = list(dict.fromkeys((row["model"], row["part"]) for row in rows if "engine" in row))
    by_key = {(row["model"], row["part"], row.get("engine")): row for row in rows}
    lines = []
    for part in parts:
        found = [by_key[(*part, engine)] for engine in engines]
        agreement = [f"{row['error']:.0e}" if "error" in row else f"{row['cosine']:.4f}" for row in found]
        lines.append([*part, *(shown(row["ms"]) for row in found), ", ".join(agreement)])
    heads = ("model", "part", *(f"{engine}, ms" for engine in engines), "error, or the gradient's cosine, to the first")
    costs = [[row["model"], row["part"], shown(row["ms"])] for row in rows if "engine" not in row and "ms" in row]
    shares = [
        [
            row["model"],
            row["part"],
            f"{row['median']:.3f}",
            *(f"{row['share_of_full'][engine]:.1%}" for engine in engines),
        ]
        for row in rows
        if "share_of_full" in row
    ]
    return [
        *markdown_table(heads, lines, words=2),
        "",
        *markdown_table(("model", "part", "ms"), costs, words=2),
        "",
        *markdown_table(
            ("model", "the cache alone", "ms", *(f"of a full pass, {each}" for each in engines)), shares, words=2
        ),
    ]


def shown(ms: dict[str, float]) -> str:
    """A median with its quartiles."""
    digits = 3 if ms["median"] < 1.0 else 2
    return f"{ms['median']:.{digits}f} ({ms['first_quartile']:.{digits}f}-{ms['third_quartile']:.{digits}f})"


def main() -> None:
    """Measure each prior, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_options(parser, repeats=20, priors=(SD_21, ZERO123))
    options = parser.parse_args()
    check(options, ("eager", "graph"))
    rows: list[Row] = []
    for number, name in enumerate(options.priors):
        prior = load(name, options)
        found = unet_rows(name, prior, options)
        full = {row["engine"]: row["ms"]["median"] for row in found if row["part"] == "U-Net, full"}
        rows += found + cache_rows(name, prior, full, options)
        if number == 0:
            rows += encoder_rows(prior, options)
        del prior
    publish(options, TITLE, QUESTION, rows, tables(rows, options.engines))


if __name__ == "__main__":
    main()
