"""What it costs to see that a feature still serves: calls with the checks and without them, in turn, on a GPU.

Usage: python -m research.benchmarks.checks [--write docs/benchmarks/checks.md] [--repeats 100]

Full-size U-Nets of random weights, one view with two guidance branches, engine "auto". Without: what is known of the
model and of the inputs is not asked, and features are taken for finite. Each call is timed until the GPU is done, which
hides nothing of the host's work; `in a row`: sixteen calls at a time, as where the GPU has more to do. A share is of
the call without. While the checks ran once more, in 140 calls, `set_sync_debug_mode("error")` was on: nothing waits.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers import UNet2DConditionModel

import hash3d.unet as verbs
from hash3d import FeatureCache, Hash3DConfig, apply_hash3d, remove_hash3d
from hash3d.cache.calls import View
from hash3d.table.machine import name_hardware
from hash3d.table.report import markdown_table
from hash3d.unet.watch import ModelWatch
from research.measured import commit, write_measured

Call = Callable[[], object]
UNETS = {"Stable Diffusion 1.5": ((4, 64), 77), "Zero123": ((8, 32), 1)}
"""Channels and size of the inputs, and tokens of the context."""
TINY = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4}
IN_A_ROW, WITHOUT_WAITING = 16, 140


def _take_branches(cache: FeatureCache, view: View, sample: torch.Tensor, channels: int) -> None:
    view.branches = len(sample) // len(view.places)


@contextmanager
def unchecked() -> Iterator[None]:
    """Leave out the checks that a call makes."""
    parts: list[tuple[Any, str, Any]] = [
        (ModelWatch, "look", lambda *_, **__: None),
        (ModelWatch, "rest", lambda _: None),
        (verbs, "needs_gradient", lambda *_: False),
        (verbs, "is_recorded", lambda _: False),
        (verbs.Forward, "identify", lambda _, __, view, *___: [""] * len(view.places)),
        (FeatureCache, "check_batch", _take_branches),
        (FeatureCache, "_is_finite", lambda *_: True),
        (FeatureCache, "_drop_spoilt", lambda _: None),
    ]
    with ExitStack() as stack:
        for part in parts:
            stack.enter_context(patch.object(*part))
        yield


def seconds(call: Call, times: int) -> float:
    """How long one of some calls in a row takes."""
    synchronize()
    begin = time.perf_counter()
    for _ in range(times):
        call()
    synchronize()
    return (time.perf_counter() - begin) / times


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def compare(call: Call, repeats: int, times: int) -> list[str]:
    """The median without the checks, the median of what they add, its share, and the mean of what they add."""
    with_them, without = list[float](), list[float]()
    for number in range(repeats):
        for checked in (True, False) if number % 2 else (False, True):
            with ExitStack() as stack:
                if not checked:
                    stack.enter_context(unchecked())
                (with_them if checked else without).append(1e3 * seconds(call, times))
    added = [one - other for one, other in zip(with_them, without, strict=True)]
    base, median = statistics.median(without), statistics.median(added)
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
    cache = apply_hash3d(unet, Hash3DConfig(max_age=None))
    for scope in ("a red mug", None):

        def call(scope: object = scope) -> object:
            with torch.no_grad(), cache.view(elevation=10.0, azimuth=30.0, radius=1.5, timestep=500, scope=scope):
                return unet(sample, **inputs, return_dict=False)

        for kind, chance in (("full", 0.0), ("shallow", 1.0)):
            cache.reuse_probability = chance
            for _ in range(4):
                call()
                with unchecked():
                    call()
            before = cache.statistics.full
            for times in (1, IN_A_ROW):
                found = compare(call, max(options.repeats // times, 4), times)
                yield [name, str(dtype).split(".")[1], kind, "given" if scope else "none", str(times), *found]
            assert (cache.statistics.full > before) == (kind == "full")
            wait_for_nothing(call)
    remove_hash3d(unet)


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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=100, help="pairs of calls")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="narrow models, for a CPU")
    parser.add_argument("--commit", default=commit())
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    options, begin = parser.parse_args(), time.perf_counter()
    torch.set_num_threads(1)
    rows = [
        row
        for name, dtype in zip(UNETS, (torch.float16, torch.bfloat16), strict=True)
        for row in rows_of(name, dtype, options)
    ]
    heads = ("model", "dtype", "call", "scope", "in a row", "ms without", "checks, ms", "share", "checks, mean ms")
    made = (
        f"`python -m research.benchmarks.checks {' '.join(sys.argv[1:])}`, commit {options.commit}, "
        f"{name_hardware(options.device)}, torch {torch.__version__}, {date.today()}. "
        f"Medians of {options.repeats} pairs."
    )
    lines = [made, "", *markdown_table(heads, rows, words=4)]
    print("\n".join(lines), f"\n{time.perf_counter() - begin:.0f} s")
    if options.write:
        write_measured(options.write.with_suffix(""), "What the checks cost", (__doc__ or "").split("\n\n")[2], lines)


if __name__ == "__main__":
    main()
