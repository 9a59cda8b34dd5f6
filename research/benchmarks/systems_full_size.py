"""All nine systems at full size on a GPU, with random weights in the published layouts: cache off, on, and replay.

Usage:
    python -m research.benchmarks.systems_full_size --write docs/benchmarks/systems_full_size.md
    python -m research.benchmarks.systems_full_size --tiny --device cpu --steps 6 --warm-up 2

Each system runs its `supplement` preset for a few steps of each stage, at the largest pictures of its schedule. The
priors are written to a folder once, and loaded from it. On a GPU a process of its own does the work, and is replaced
after an error, so that one system cannot stop the others.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import torch

from hash3d.bench.measure import StepTimes
from hash3d.cache import FeatureCache
from hash3d.cli.host import limit_threads, require_device
from hash3d.fast.engine import Engine
from hash3d.files import write_text
from hash3d.pictures import load_picture
from hash3d.recipes.recipe import Recipe
from hash3d.representations.nerf import NerfConfig
from hash3d.schedules import size_at
from hash3d.systems import SYSTEMS
from hash3d.table.objects import describe_machine
from hash3d.table.report import markdown_table
from hash3d.training.run import frame_reference, peak_memory, versions
from hash3d.training.trainer import Trainer
from research.measured import write_measured

from .command import describe_run
from .full_size_cases import CACHES, LOADED, Case, build_recipe, list_cases, prepare

Row = dict[str, Any]
TITLE = "The nine systems at full size"
QUESTION = "Does each system run at full size on a GPU, how long does a step take, and how much memory?"
PARTS = {"render": ("render",), "encode": ("encode", "decode"), "U-Net": ("unet",), "backward": ("backward",)}
"""Columns of the table, and which parts of the stopwatch each sums up."""
HEADS = (
    "system",
    "stage",
    "cache",
    "pixels",
    "views",
    "steps",
    "median ms",
    "mean ms",
    *PARTS,
    "other",
    "reused",
    "GiB",
    "start s",
)


def measure(case: Case) -> list[Row]:
    """A row for each stage; the last one tells the error, if there was one."""
    limit_threads(case.device)
    rows: list[Row] = []
    try:
        for row in run_stages(case):
            rows.append(row)
    except Exception as error:
        traceback.print_exc()
        rows.append(failure(case, len(rows) + 1, error))
    return rows


def failure(case: Case, stage: int, error: BaseException) -> Row:
    """What is known of a stage that did not come through: the kind of the error, and the first line of its message."""
    message = str(error).strip().splitlines() or [""]
    return {
        "system": case.system,
        "stage": stage,
        "cache": case.cache,
        "error": f"{type(error).__name__}: {message[0]}",
    }


def run_stages(case: Case) -> Iterator[Row]:
    """Run a system's stages, each from the one before."""
    priors, recipe = LOADED(case), build_recipe(case)
    picture = frame_reference(recipe, priors[0], load_picture(recipe.image)) if recipe.image else None
    trainer: Trainer | None = None
    for number in range(len(recipe.stages)):
        forget_peak(case.device)
        started, times = time.perf_counter(), StepTimes(torch.device(case.device))
        previous = trainer.scene.model if trainer else None
        tools = {"number": number, "engine": case.engine, "stopwatch": times}
        trainer, note = start(recipe, previous, dict(zip(recipe.priors, priors, strict=True)), picture, tools)
        seconds = time.perf_counter() - started
        try:
            metrics = timed_steps(trainer, times, case.warm_up)
        finally:
            trainer.close()
        stage = trainer.stage
        yield {
            "system": case.system,
            "stage": number + 1,
            "cache": case.cache,
            "representation": type(trainer.scene.model).__name__,
            "scene": trainer.scene.counts(),
            "pixels": size_at(stage.size, 0),
            "views": stage.cameras.batch_size,
            "steps": stage.steps,
            **metrics,
            "peak_bytes": peak_memory(trainer.device),
            "start_seconds": seconds,
            "note": note,
        }


def start(
    recipe: Recipe, previous: Any, priors: dict[str, Any], picture: Any, tools: dict[str, Any]
) -> tuple[Trainer, str]:
    """The trainer of a stage, and what was special about its start.

    A field that random weights have trained may have no surface; then the second stage starts from a new one.
    """
    try:
        return Trainer(recipe, priors, picture, previous=previous, **tools), ""
    except ValueError as error:
        config = recipe.stage.representation
        if previous is None or not isinstance(config, NerfConfig):
            raise
        blob = config.build(torch.Generator().manual_seed(recipe.seed)).to(next(iter(priors.values())).device)
        return Trainer(recipe, priors, picture, previous=blob, **tools), f"from a new field ({error})"


def forget_peak(device: str) -> None:
    """Let the peak memory of the allocator start anew."""
    gc.collect()  # The hook and its U-Net refer to each other.
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def timed_steps(trainer: Trainer, times: StepTimes, warm_up: int) -> Row:
    """All steps of a stage: median milliseconds from one to the next, their means by parts, and the share of reuse.

    Steps before `warm_up` count for none of them. The host does not wait for the device between steps, as in a run.
    """
    passes_before = 0, 0
    while not trainer.completed:
        if trainer.step_count == warm_up:
            passes_before = passes(trainer)
        times.mark_step()
        trainer.step()
    times.mark_step()
    measured = times.take()[warm_up:]
    parts = {
        name: statistics.mean(sum(parts.get(part, 0.0) for part in of) for _, parts in measured)
        for name, of in PARTS.items()
    }
    full, shallow = (now - then for now, then in zip(passes(trainer), passes_before, strict=True))
    mean = statistics.mean(ms for ms, _ in measured)
    return {
        "measured_steps": len(measured),
        "median_ms": statistics.median(ms for ms, _ in measured),
        "mean_ms": {"step": mean, **parts, "other": mean - sum(parts.values())},
        "reuse_share": shallow / max(full + shallow, 1),
    }


def passes(trainer: Trainer) -> tuple[int, int]:
    """Full and shallow U-Net passes through the caches so far."""
    caches: list[FeatureCache] = [each.cache for each in trainer.guidances.values() if each.cache is not None]
    return sum(cache.statistics.full for cache in caches), sum(cache.statistics.shallow for cache in caches)


class Workers:
    """Runs cases one after the other: on a GPU in another process, and in a new one after an error."""

    def __init__(self, device: str) -> None:
        self._in_process = device != "cuda"
        self._pool: ProcessPoolExecutor | None = None

    def __call__(self, case: Case) -> list[Row]:
        """The rows of a case."""
        if self._in_process:
            return measure(case)
        self._pool = self._pool or ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        try:
            rows = self._pool.submit(measure, case).result()
        except Exception as error:  # The process itself has died.
            rows = [failure(case, 1, error)]
        if any("error" in row for row in rows):
            self.close()
        return rows

    def close(self) -> None:
        """End the process."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None


def cells(row: Row) -> list[str]:
    """One line of the table."""
    named = [row["system"], str(row["stage"]), row["cache"]]
    if "error" in row:
        return [*named, row["error"].replace("|", "/"), *[""] * (len(HEADS) - len(named) - 1)]
    named[0] += " *" if row["note"] else ""
    numbers = [row["median_ms"], *row["mean_ms"].values()]
    return [
        *named,
        *(str(row[name]) for name in ("pixels", "views", "measured_steps")),
        *(f"{number:.1f}" for number in numbers),
        f"{row['reuse_share']:.0%}",
        f"{row['peak_bytes'] / 2**30:.2f}",
        f"{row['start_seconds']:.1f}",
    ]


def page_lines(rows: list[Row], account: Row) -> list[str]:
    """What is put into the page."""
    notes = sorted({f"{row['system']}: {row['note']}" for row in rows if row.get("note")})
    return [
        f"{describe_run(account)}, {json.dumps(versions())}.",
        "",
        *markdown_table(HEADS, [cells(row) for row in rows], words=3),
        *(f"\n\\* {note}" for note in notes),
    ]


def parse() -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [info.name for info in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--caches", nargs="+", choices=CACHES, default=list(CACHES), metavar="KIND")
    parser.add_argument("--steps", type=int, default=50, help="of each stage, the warm-up among them")
    parser.add_argument("--warm-up", type=int, default=8, help="steps of each stage that are not measured")
    parser.add_argument("--early", action="store_true", help="pictures as large as at the start of each schedule")
    parser.add_argument("--tiny", action="store_true", help="narrow priors and small scenes, for a CPU")
    parser.add_argument("--engine", choices=get_args(Engine), default="auto", help="how the diffusion models run")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--folder", type=Path, help="of the priors; they stay there")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if not 0 <= options.warm_up < options.steps:
        parser.error(f"Expected a warm-up of fewer than {options.steps} steps, but got {options.warm_up}.")
    return options


def main() -> None:
    """Run every system with each cache; print, and write after each run, so that none is lost."""
    options = parse()
    require_device(options.device)
    size = "tiny" if options.tiny else "full"
    folder = options.folder or Path(tempfile.gettempdir()) / f"hash3d-{size}-size"
    settings = {name: getattr(options, name) for name in ("device", "steps", "warm_up", "early", "tiny", "engine")}
    first = Case(system=options.systems[0], cache="off", folder=folder, **settings)
    cases = list_cases(first, options.systems, options.caches)
    account = describe_machine(folder, options.device, commit=options.commit).account()
    workers, rows = Workers(options.device), list[Row]()
    try:
        started = time.perf_counter()
        prepare(cases)
        print(f"Priors written in {time.perf_counter() - started:.0f} s. {' | '.join(HEADS)}", flush=True)
        for case in cases:
            started = time.perf_counter()
            new = workers(case)
            rows += new
            for row in new:
                print(" | ".join(cells(row)), flush=True)
            print(f"  {case.system}, cache {case.cache}: {time.perf_counter() - started:.0f} s in all", flush=True)
            if options.json:
                write_text(options.json, json.dumps({**account, "versions": versions(), "rows": rows}, indent=1) + "\n")
            if options.write:
                write_measured(options.write.with_suffix(""), TITLE, QUESTION, page_lines(rows, account))
    finally:
        workers.close()
    sys.exit(any("error" in row for row in rows))


if __name__ == "__main__":
    main()
