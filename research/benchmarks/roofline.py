"""How fast a system's steps could be: the Amdahl limit of reuse, and the roofline of its U-Net.

Usage:
    python -m research.benchmarks.roofline SYSTEM [the options of `hash3d bench`, which is run first]

The Amdahl limit is 1 / (1 - p u (1 - q)): p the share of passes reused, u the U-Net's share of a step without reuse on
the eager engine, q an eager shallow pass over a full one. The roofline is the U-Net's floating-point operations over
the measured rate of matmuls, or its bytes (weights read once a pass, inputs, outputs) over that of copies, whichever
takes longer.
"""

import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hash3d.bench.measure import Contestant, Measured, Models, measure
from hash3d.bench.summary import summarize
from hash3d.cli.bench import load, parse
from hash3d.recipes.recipe import Recipe
from hash3d.table.report import markdown_table
from hash3d.unet.partial_unet import PartialUNet
from research.timing import seconds_of

HEADS = ("case", "p", "u", "q", "Amdahl limit", "times off, eager", "TFLOP a step", "GB a step", "roofline ms")
GIGA, TERA = 1e9, 1e12
REPEATS = 5


@dataclass(frozen=True, kw_only=True)
class Work:
    """Floating-point operations and bytes: what a pass must do, or what the machine does in a second."""

    operations: float
    """Of matmuls, attention and convolutions."""
    bytes: float
    """Weights read once, inputs read once, outputs written once: layers in between may stay on the chip."""

    def seconds(self, rates: "Work") -> float:
        """Seconds at the machine's rates, reading while computing."""
        return max(self.operations / rates.operations, self.bytes / rates.bytes)


def measure_rates(device: torch.device, *, side: int | None = None, count: int | None = None) -> Work:
    """Return the best rate of some matmuls (float16 on a GPU, else float32), and of copies of `count` bytes."""
    on_gpu = device.type == "cuda"
    side, count = side or (8192 if on_gpu else 1024), count or (2**31 if on_gpu else 2**27)
    first, second = (torch.randn(side, side, device=device).to(torch.half if on_gpu else torch.float) for _ in "ab")
    source = torch.ones(count, dtype=torch.uint8, device=device)
    target = torch.zeros_like(source)
    matmul, copy = (
        min(seconds_of(call, device, REPEATS, warm_up=2))
        for call in (lambda: first @ second, lambda: target.copy_(source))
    )
    return Work(operations=2.0 * side**3 / matmul, bytes=2.0 * count / copy)


@torch.no_grad()
def measure_passes(unet: Any, inputs: dict[str, Any], cut: int, device: torch.device) -> tuple[Work, Work, float]:
    """Return the work of a full pass, of a shallow one from `cut`, and their eager times' ratio, for all views."""
    partial = PartialUNet(unet, cut)
    _, feature = partial.full_pass(**inputs)
    calls = (lambda: partial.full_pass(**inputs), lambda: partial.shallow_pass(feature, **inputs))
    given = sum(value.nbytes for value in inputs.values() if isinstance(value, Tensor)) + inputs["sample"].nbytes
    full, shallow = (count_work(unet, call) for call in calls)
    slow, fast = (statistics.median(seconds_of(call, device, REPEATS, warm_up=2)) for call in calls)
    return (
        Work(operations=full.operations, bytes=full.bytes + given),
        Work(operations=shallow.operations, bytes=shallow.bytes + given + feature.nbytes),
        fast / slow,
    )


def count_work(module: nn.Module, function: Callable[[], object]) -> Work:
    """Count the operations of a call, and the bytes of the weights of the layers that ran in it."""
    ran: dict[int, float] = {}

    def note(layer: nn.Module, *_: Any) -> None:
        ran.update({weights.data_ptr(): weights.nbytes for weights in layer.parameters(recurse=False)})

    with ExitStack() as stack:
        for layer in module.modules():
            stack.callback(layer.register_forward_hook(note).remove)
        # The kernels of fused attention are not all counted; its matmuls are.
        counter = stack.enter_context(FlopCounterMode(display=False))
        stack.enter_context(sdpa_kernel(SDPBackend.MATH))
        function()
    return Work(operations=float(counter.get_total_flops()), bytes=sum(ran.values()))


@contextmanager
def record_inputs(unet: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield a dictionary that gets the arguments of each call of a U-Net in this block; the last ones stay."""
    seen = dict[str, Any]()

    def note(_: nn.Module, __: tuple[Any, ...], given: dict[str, Any]) -> None:
        seen.update({name: value for name, value in given.items() if name != "return_dict"})

    handle = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


def amdahl_limit(reused: float, unet_share: float, cost: float) -> float:
    """Return the most that reuse can speed up a run: 1 / (1 - p u (1 - q))."""
    return 1.0 / (1.0 - reused * unet_share * (1.0 - cost))


def count_step(case: Measured, work: Sequence[tuple[Work, Work]], rates: Work) -> tuple[Work, float]:
    """Return a mean step's work, and its least seconds; `work` is a full and a shallow pass of each U-Net."""
    views = sum(case.steps[0].passes[0])
    done = [
        (sum(step.passes[unet][kind] for step in case.steps) / (views * len(case.steps)), work[unet][kind])
        for unet in range(len(work))
        for kind in (0, 1)
    ]
    total = Work(operations=sum(n * each.operations for n, each in done), bytes=sum(n * each.bytes for n, each in done))
    return total, sum(n * each.seconds(rates) for n, each in done)


def make_rows(recipe: Recipe, models: Models, results: Sequence[Measured], rates: Work) -> list[list[str]]:
    """Return a row of the table for each case."""
    summaries = summarize(results)
    unet_share = summaries[0].parts["U-Net"] / summaries[0].ms.mean
    off = Contestant(results[0].case, recipe, models)
    with ExitStack() as stack:
        seen = [stack.enter_context(record_inputs(prior.unet)) for prior in off.trainer.priors.values()]
        off.run(1, measured=False)
    off.trainer.close()
    rows = []
    for case, row in zip(results, summaries, strict=True):
        cut = -1 if case.case.cache is None else case.case.cache.cut
        pairs = zip(models[0].values(), seen, strict=True)
        passes = [measure_passes(prior.unet, inputs, cut, off.device) for prior, inputs in pairs]
        total, seconds = count_step(case, [each[:2] for each in passes], rates)
        cost = statistics.fmean(each[2] for each in passes)
        numbers = (row.reused, unet_share, cost, amdahl_limit(row.reused, unet_share, cost), row.over_off.mean)
        work = (f"{total.operations / TERA:.4f}", f"{total.bytes / GIGA:.3f}", f"{1000.0 * seconds:.2f}")
        rows.append([row.name, *(f"{number:.3f}" for number in numbers), *work])
    return rows


def main(arguments: list[str]) -> None:
    """Measure, and print the table."""
    options = parse(arguments)
    with load(options) as (recipe, models):
        results = measure(
            recipe, models, steps=options.steps, warm_up=options.warm_up, say=partial(print, file=sys.stderr)
        )
        rates = measure_rates(next(iter(models[0].values())).device)
        print(*markdown_table(HEADS, make_rows(recipe, models, results, rates)), sep="\n")
    print(f"\nMeasured rates: {rates.operations / TERA:.2f} TFLOP/s, {rates.bytes / GIGA:.0f} GB/s.")


if __name__ == "__main__":
    main(sys.argv[1:])
