"""What it costs to see that a feature still serves: calls with the checks and without them, in turn, on a GPU.

Usage: python -m research.benchmarks.checks [--write docs/benchmarks/checks.md] [--repeats 100]

Full-size U-Nets of random weights, one view with two guidance branches, engine "auto". Without: what is known of the
model and of the inputs is not asked, and features are taken for finite. `alone`: each call is timed until the GPU is
done, which hides nothing of the host's work; `in a row`: sixteen calls are, as where the GPU has more to do. The two
kinds of calls share the weights and take turns, sixteen after four that are not timed. A share is of the call without.
While the checks ran once more, in 300 calls, `set_sync_debug_mode("error")` was on: nothing waits.

The second table is of a trainer's steps (`zero123_gs`, full size), with checks in one U-Net call of sixteen, as the
trainer has it, and in each call, as an outside loop has it. Two trainers of one seed, one of them without checks, take
sixteen steps in turn: `longer` is the median of what the checks add to a step. `in checks` is the host's time in the
functions that check. It is an upper bound: part of it a call without checks would need for the same memory and code.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from diffusers import UNet2DConditionModel

from hash3d import FeatureCache, Hash3DConfig
from hash3d.cache.calls import View
from hash3d.pictures import load_picture
from hash3d.table.objects import name_hardware
from hash3d.table.report import markdown_table
from hash3d.training.run import frame_reference
from hash3d.training.trainer import CHECK_EVERY, Trainer
from hash3d.unet.hook import Hash3DForward
from hash3d.unet.watch import ModelWatch
from research.measured import parse_options, write_measured

from .full_size_cases import Case, Loaded, build_recipe, prepare

Call = Callable[[], object]
UNETS = {"Stable Diffusion 1.5": ((4, 64), 77), "Zero123": ((8, 32), 1)}
"""Channels and size of the inputs, and tokens of the context."""
TINY = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "attention_head_dim": 4}
IN_A_ROW, WITHOUT_WAITING, WARM_UP = 16, 300, 4
STEPS, WARM_UP_STEPS = 480, 64
CHECKS = [
    (ModelWatch, "look"), (ModelWatch, "rest"), (Hash3DForward, "_serves"), (Hash3DForward, "identify"),
    (FeatureCache, "check_batch"), (FeatureCache, "_are_finite"), (FeatureCache, "_drop_spoilt"),
]  # fmt: skip
"""What asks whether a feature serves, in a call of the cache."""


class Unwatched(ModelWatch):
    """Sees no change."""

    def look(self, **_: Any) -> None:  # noqa: D102
        pass

    def rest(self) -> None:  # noqa: D102
        pass


class UncheckedForward(Hash3DForward):
    """Takes the model, the inputs and gradients for what they were."""

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

    def check_batch(self, view: View, sample: torch.Tensor, *_: Any) -> None:  # noqa: D102
        view.branches = len(sample) // len(view.places)

    def _are_finite(self, features: torch.Tensor, entries: list[Any]) -> list[bool]:
        return [True] * features.shape[1]

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


@contextmanager
def timed_checks() -> Iterator[list[float]]:
    """While open, the host's seconds in each check are added to a list."""
    spent: list[float] = []

    def timed(check: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            begin = time.perf_counter()
            found = check(*args, **kwargs)
            spent.append(time.perf_counter() - begin)
            return found

        return run

    with ExitStack() as stack:
        for kind, name in CHECKS:
            stack.enter_context(patch.object(kind, name, timed(getattr(kind, name))))
        yield spent


def trainer_rows(options: argparse.Namespace) -> Iterator[list[str]]:
    """A row for a trainer's steps with checks now and then, and one for those with checks in each call."""
    folder = Path(tempfile.gettempdir()) / f"hash3d-random-{'tiny' if options.tiny else 'priors'}"
    case = Case(
        system="zero123_gs", cache="on", folder=folder, device=options.device, steps=4 * STEPS, warm_up=0,
        early=False, tiny=options.tiny,
    )  # fmt: skip
    prepare([case])
    recipe = build_recipe(case)
    assert recipe.image is not None
    for every in (CHECK_EVERY, 1):
        trainers = []
        for kinds in ((Hash3DForward, FeatureCache), (UncheckedForward, UncheckedCache)):
            (prior,) = Loaded()(case)
            picture = frame_reference(recipe, prior, load_picture(recipe.image))
            trainer = Trainer(recipe, dict(zip(recipe.priors, [prior], strict=True)), picture)
            forward: Any = prior.unet.forward
            forward.check_every, forward.__class__, forward.cache.__class__ = every, *kinds
            trainers.append(trainer)
            run_steps(trainer, WARM_UP_STEPS)
        times: list[list[float]] = [[], []]
        for number in range(STEPS // IN_A_ROW):
            for which in (0, 1) if number % 2 else (1, 0):
                times[which].append(1e3 * run_steps(trainers[which], IN_A_ROW) / IN_A_ROW)
        longer = [one - other for one, other in zip(*times, strict=True)]
        with timed_checks() as spent:
            run_steps(trainers[0], STEPS)
        step, added, checks = statistics.median(times[1]), statistics.median(longer), 1e3 * sum(spent) / STEPS
        error = statistics.stdev(longer) / len(longer) ** 0.5
        numbers = f"{step:.3f}", f"{added:+.4f} +- {error:.4f}", f"{added / step:+.2%}", f"{checks:.4f}"
        yield [str(every), *numbers, f"{checks / step:.2%}"]
        for trainer in trainers:
            trainer.close()


def run_steps(trainer: Trainer, count: int) -> float:
    """The seconds that some steps take."""
    synchronize()
    begin = time.perf_counter()
    for _ in range(count):
        trainer.step()
    synchronize()
    return time.perf_counter() - begin


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
    of_steps = ("calls from check to check", "step without, ms", "longer, ms", "share", "in checks, ms", "share")
    lines = [made, "", *markdown_table(heads, rows, words=5)]
    lines += ["", *markdown_table(of_steps, list(trainer_rows(options)), words=0)]
    print("\n".join(lines), f"\n{time.perf_counter() - begin:.0f} s")
    if options.write:
        write_measured(
            options.write.with_suffix(""),
            "What the checks cost",
            "\n\n".join((__doc__ or "").strip().split("\n\n")[2:]),
            lines,
        )


if __name__ == "__main__":
    main()
