"""What makes the mini scale faster on a CPU, and what does not: threads, layouts, inference mode, compilation, Adam.

Usage:
    python -m research.benchmarks.cpu --write docs/benchmarks/cpu.md
    python -m research.benchmarks.cpu --tiny --repeats 2 --no-compile

The parts of a step of `make demo` alone, on an embedded prior: the guidance pair in full and from the last cut, the
encoder with its gradient, Adam over 3,000 Gaussians. All variants run in turn, call by call, so that whatever else
the machine does meets all alike; medians and minima, since such a disturbance only ever adds.
"""

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._inductor.config

from hash3d.bench.measure import with_shared_weights
from hash3d.diffusion.random_weights import ZERO123
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.table.report import markdown_table
from hash3d.training.guide import load_zero123
from hash3d.unet.partial_unet import PartialUNet

from .random_models import Prior, load, pair, publish

Call = Callable[[], Any]
TITLE = "The mini scale on a CPU"
QUESTION = "Which changes make a step on a CPU faster?"
GAUSSIANS = 3000
DEMO_STEPS, REUSED = 300, 0.75
"""Of a run of `make demo`."""


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to do a part."""

    part: str
    name: str
    call: Call
    threads: int | None = None
    """PyTorch's; None leaves them."""


@contextlib.contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Another number of threads for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def relaid(prior: Prior, **how: Any) -> Prior:
    """A copy of the prior with its weights laid out or rounded otherwise."""
    copy = with_shared_weights(prior)
    return copy.to(**how)


def without_gradient(call: Call) -> Call:
    """The call under no_grad, as training makes it."""
    return torch.no_grad()(call)


def unet_variants(prior: Prior, compiled: bool) -> Iterator[Variant]:
    """The guidance pair in full, and from the last cut."""
    inputs = pair(prior)
    _, feature = torch.no_grad()(PartialUNet(prior.unet, -1).full_pass)(**inputs)
    for part, shallow in (("U-Net, full", False), ("U-Net, shallow", True)):

        def made(own: Prior, given: dict[str, Any], feature: Any = feature, shallow: bool = shallow) -> Call:
            partial = PartialUNet(own.unet, -1)
            if shallow:
                return lambda: partial.shallow_pass(feature.to(own.dtype), **given).sample
            return lambda: partial.unet(**given).sample

        contiguous = relaid(prior, memory_format=torch.contiguous_format)
        rounded = relaid(prior, dtype=torch.bfloat16)
        as_bfloat16 = {name: value.bfloat16() if value.is_floating_point() else value for name, value in inputs.items()}
        usual = made(prior, inputs)
        yield Variant(part=part, name="as it is", call=without_gradient(usual))
        yield Variant(part=part, name="one thread", call=without_gradient(usual), threads=1)
        yield Variant(part=part, name="contiguous", call=without_gradient(made(contiguous, inputs)))
        yield Variant(part=part, name="inference mode", call=torch.inference_mode()(usual))
        yield Variant(part=part, name="bfloat16", call=without_gradient(made(rounded, as_bfloat16)))
        if compiled:
            yield Variant(
                part=part, name="compiled", call=compiled_pass(with_shared_weights(prior), inputs, feature, shallow)
            )


def compiled_pass(own: Prior, inputs: dict[str, Any], feature: Any, shallow: bool) -> Call:
    """A pass by torch.compile; a shallow one with its patches in place throughout."""
    unet: Any = own.unet
    if not shallow:
        return without_gradient(torch.compile(lambda: unet(**inputs, return_dict=False)[0], dynamic=False))
    stack = contextlib.ExitStack()
    stack.enter_context(PartialUNet(unet, -1).reusing(feature))

    def call(keep: Any = stack) -> Any:
        return unet(**inputs, return_dict=False)[0]

    return without_gradient(torch.compile(call, dynamic=False))


def encoder_variants(prior: Prior, compiled: bool) -> Iterator[Variant]:
    """The encoder and its gradient on the picture."""
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand((1, 3, prior.image_size, prior.image_size), generator=generator)
    cotangent = torch.randn((1, 4, prior.unet.config.sample_size, prior.unet.config.sample_size), generator=generator)

    def made(encode: Callable[[Any], Any]) -> Call:
        def call() -> Any:
            given = picture.clone().requires_grad_()
            return torch.autograd.grad(encode(given), given, cotangent)[0]

        return call

    contiguous = relaid(prior, memory_format=torch.contiguous_format)
    rounded = relaid(prior, dtype=torch.bfloat16)
    part = "encoder and gradient"
    yield Variant(part=part, name="as it is", call=made(prior.encode))
    yield Variant(part=part, name="one thread", call=made(prior.encode), threads=1)
    yield Variant(part=part, name="contiguous", call=made(contiguous.encode))
    yield Variant(part=part, name="bfloat16", call=made(lambda x: rounded.encode(x).float()))
    if compiled:
        yield Variant(
            part=part, name="compiled", call=made(torch.compile(with_shared_weights(prior).encode, dynamic=False))
        )


def adam_variants() -> Iterator[Variant]:
    """A step of Adam over Gaussians, in PyTorch's three implementations."""
    for name, choice in (("as it is", {}), ("foreach", {"foreach": True}), ("fused", {"fused": True})):
        scene = GaussiansConfig(num_points=GAUSSIANS).build(torch.Generator().manual_seed(0))
        groups = [dict(group) for group in scene.build_optimizer().param_groups]
        optimizer = torch.optim.Adam([{"params": group["params"], "lr": 1e-3} for group in groups], **choice)
        generator = torch.Generator().manual_seed(1)
        for parameter in scene.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        yield Variant(part="Adam", name=name, call=lambda optimizer=optimizer: optimizer.step())


def measured(variants: list[Variant], repeats: int) -> list[dict[str, Any]]:
    """A row each: all variants in turn, `repeats` times."""
    times: list[list[float]] = [[] for _ in variants]
    starts, results = [], []
    for variant in variants:
        with threads(variant.threads):
            started = time.perf_counter()
            results.append(variant.call())
            starts.append(time.perf_counter() - started)
            variant.call()
    for turn in range(repeats):
        for place in range(len(variants)):
            number = (place + turn) % len(variants)
            with threads(variants[number].threads):
                started = time.perf_counter()
                variants[number].call()
                times[number].append(1000.0 * (time.perf_counter() - started))
    exact = {
        variant.part: result for variant, result in zip(variants, results, strict=True) if variant.name == "as it is"
    }
    return [
        {
            "part": variant.part,
            "variant": variant.name,
            "median": statistics.median(found),
            "minimum": min(found),
            "start_seconds": start,
            "error": None if result is None else relative_error(result, exact[variant.part]),
        }
        for variant, found, start, result in zip(variants, times, starts, results, strict=True)
    ]


def relative_error(found: Any, exact: Any) -> float:
    """Of a tensor."""
    return float((found.float() - exact.float()).norm() / exact.float().norm())


def lines(rows: list[dict[str, Any]]) -> list[str]:
    """A line a variant, with its times over those of what is there now."""
    base = {row["part"]: row for row in rows if row["variant"] == "as it is"}
    cells = []
    for row in rows:
        usual = base[row["part"]]
        ratios = [f"{row[kind] / usual[kind]:.2f}" for kind in ("median", "minimum")]
        error = "-" if row["error"] is None else f"{row['error']:.0e}"
        times = [f"{row[kind]:.2f}" for kind in ("median", "minimum")]
        cells.append([row["part"], row["variant"], *times, *ratios, f"{row['start_seconds']:.1f}", error])
    heads = ("part", "variant", "median ms", "minimum ms", "median, of now", "minimum, of now", "first call s", "error")
    return [*markdown_table(heads, cells, words=2), "", *paid_back(rows)]


def paid_back(rows: list[dict[str, Any]]) -> list[str]:
    """Whether compiling the U-Net and the encoder pays within a run of the demo, by the minima."""
    found = {(row["part"], row["variant"]): row for row in rows}
    weights = {"U-Net, full": 1.0 - REUSED, "U-Net, shallow": REUSED, "encoder and gradient": 1.0}
    told = []
    for part, weight in weights.items():
        if (part, "compiled") in found:
            compiled, usual = found[part, "compiled"], found[part, "as it is"]
            saved = DEMO_STEPS * weight * (usual["minimum"] - compiled["minimum"]) / 1000.0
            told.append(
                f"{part}: compiling takes {compiled['start_seconds']:.0f} s and saves {saved:.1f} s of {DEMO_STEPS} "
                f"steps with {REUSED:.0%} of the passes reused."
            )
    return told


def main() -> None:
    """Measure the parts, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="a narrow model of random weights")
    parser.add_argument("--folder", type=Path, help="of the narrow model; it stays there")
    parser.add_argument("--commit")
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    options.device = "cpu"
    torch._inductor.config.force_disable_caches = True  # The first run on a machine has none.
    prior = load(ZERO123, options) if options.tiny else load_zero123("mini-zero123", torch.device("cpu"))
    variants = [*unet_variants(prior, not options.no_compile), *encoder_variants(prior, not options.no_compile)]
    rows = measured([*variants, *adam_variants()], options.repeats)
    publish(options, TITLE, QUESTION, rows, lines(rows))


if __name__ == "__main__":
    main()
