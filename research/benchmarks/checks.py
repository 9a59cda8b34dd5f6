"""What it costs to see that a feature still serves: calls with the checks and without them, in turn, on a GPU.

Usage: python -m research.benchmarks.checks [--write docs/benchmarks/checks.md] [--repeats 100]

Full-size U-Nets of random weights, one view with two guidance branches, engine "auto". Without: what is known of the
model and of the inputs is not asked, and features are taken for finite. `alone`: each call is timed until the GPU is
done, which hides nothing of the host's work; `in a row`: sixteen calls are, as where the GPU has more to do. The two
kinds of calls share the weights and take turns, sixteen after four that are not timed. A share is of the call without.
While the checks ran once more, in 300 calls, `set_sync_debug_mode("error")` was on: nothing waits.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import date
from functools import partial
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from hash3d import FeatureCache, Hash3DConfig
from hash3d.cache.calls import View
from hash3d.table.machine import name_hardware
from hash3d.table.report import markdown_table
from hash3d.unet.hook import Hash3DForward
from hash3d.unet.watch import ModelWatch
from research.measured import parse_options, write_measured

Call = Callable[[], object]
UNETS = {"Stable Diffusion 1.5": ((4, 64), 77), "Zero123": ((8, 32), 1)}
"""Channels and size of the inputs, and tokens of the context."""
TINY = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4}
IN_A_ROW, WITHOUT_WAITING, WARM_UP = 16, 300, 4


class Unwatched(ModelWatch):
    """Sees no change."""

    def look(self, **_: Any) -> None:  # noqa: D102
        pass

    def rest(self) -> None:  # noqa: D102
        pass


class UncheckedForward(Hash3DForward):
    """Takes the model, the inputs and gradients for what they were."""

    __slots__ = ()

    @property
    def watch(self) -> ModelWatch:  # noqa: D102
        self._watch = self._watch or Unwatched(self.unet)
        return self._watch

    def _serves(self, inputs: dict[str, Any]) -> bool:
        return True

    def identify(self, inputs: dict[str, Any], view: View, keys: Any) -> list[str]:  # noqa: D102
        return [""] * len(keys)


class UncheckedCache(FeatureCache):
    """Takes batches for right and features for finite."""

    def check_batch(self, view: View, sample: torch.Tensor, channels: int) -> None:  # noqa: D102
        view.branches = len(sample) // len(view.places)

    def _is_finite(self, entry: Any) -> bool:
        return True

    def _drop_spoilt(self) -> None:
        pass


def seconds(call: Call, alone: bool) -> float:
    """How long one of some calls takes: the median if each is waited for, else the mean."""
    for _ in range(WARM_UP):
        call()
    times = []
    for _ in range(IN_A_ROW if alone else 1):
        synchronize()
        begin = time.perf_counter()
        for _ in range(1 if alone else IN_A_ROW):
            call()
        synchronize()
        times.append(time.perf_counter() - begin)
    return statistics.median(times) if alone else times[0] / IN_A_ROW


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(calls: list[Call], repeats: int, alone: bool) -> list[str]:
    """The median without the checks, the median of what they add, its share, and the mean of what they add."""
    found: list[list[float]] = [[], []]
    for number in range(repeats):
        for which in (0, 1) if number % 2 else (1, 0):
            found[which].append(1e3 * seconds(calls[which], alone))
    added = [one - other for one, other in zip(*found, strict=True)]
    base, median = statistics.median(found[1]), statistics.median(added)
    return [f"{base:.3f}", f"{median:+.4f}", f"{median / base:+.2%}", f"{statistics.fmean(added):+.4f}"]


def rows_of(name: str, dtype: torch.dtype, options: argparse.Namespace) -> Iterator[list[str]]:
    """A row for full and for shallow calls of a model, with and without a `scope`."""
    (channels, size), tokens = UNETS[name]
    size = 8 if options.tiny else size
    torch.manual_seed(0)
    dtype = torch.float32 if options.device == "cpu" else dtype
    with torch.device(options.device):
        more: dict[str, Any] = TINY if options.tiny else {}
        unet = UNet2DConditionModel(sample_size=size, in_channels=channels, cross_attention_dim=768, **more)
        inputs = {
            "encoder_hidden_states": torch.randn(2, tokens, 768, dtype=dtype),
            "timestep": torch.tensor([500] * 2),
        }
        sample = torch.randn(1, channels, size, size, dtype=dtype).repeat(2, 1, 1, 1)
    unet = unet.to(dtype).eval().requires_grad_(False)
    config = Hash3DConfig(max_age=None)
    caches = [FeatureCache(config), UncheckedCache(config)]
    kinds = (Hash3DForward, UncheckedForward)
    forwards = [kind(unet, config.cut, "auto", cache) for kind, cache in zip(kinds, caches, strict=True)]

    def call(which: int, scope: object) -> object:
        unet.forward = forwards[which]
        with torch.no_grad(), caches[which].view(elevation=10.0, azimuth=30.0, radius=1.5, timestep=500, scope=scope):
            return unet(sample, **inputs, return_dict=False)

    for scope in ("a red mug", None):
        calls = [partial(call, which, scope) for which in (0, 1)]
        for kind, chance in (("full", 0.0), ("shallow", 1.0)):
            for cache in caches:
                cache.reuse_probability = chance
            for each in calls:
                seconds(each, alone=False)
            before = caches[0].statistics.full
            for alone in (True, False):
                found = compare(calls, options.repeats, alone)
                yield [
                    name,
                    str(dtype).split(".")[1],
                    kind,
                    "given" if scope else "none",
                    "alone" if alone else "in a row",
                    *found,
                ]
            assert (caches[0].statistics.full > before) == (kind == "full")
            wait_for_nothing(calls[0])


def wait_for_nothing(call: Call) -> None:
    """Raise `RuntimeError` if a call waits for the GPU."""
    if not torch.cuda.is_available():
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(WITHOUT_WAITING):
            call()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def main() -> None:
    """Measure, print, write."""
    options, begin = parse_options(__doc__, 30, "pairs of sixteen calls"), time.perf_counter()
    torch.set_num_threads(1)
    rows = [
        row
        for name, dtype in zip(UNETS, (torch.float16, torch.bfloat16), strict=True)
        for row in rows_of(name, dtype, options)
    ]
    heads = ("model", "dtype", "call", "scope", "timed", "ms without", "checks, ms", "share", "checks, mean ms")
    made = (
        f"`python -m research.benchmarks.checks {' '.join(sys.argv[1:])}`, commit {options.commit}, "
        f"{name_hardware(options.device)}, torch {torch.__version__}, {date.today()}. "
        f"Medians of {options.repeats} pairs."
    )
    lines = [made, "", *markdown_table(heads, rows, words=5)]
    print("\n".join(lines), f"\n{time.perf_counter() - begin:.0f} s")
    if options.write:
        write_measured(options.write.with_suffix(""), "What the checks cost", (__doc__ or "").split("\n\n")[2], lines)


if __name__ == "__main__":
    main()
