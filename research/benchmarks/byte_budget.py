"""The byte budget of the cache over a whole run: what it holds after every step, and what the process really took.

Usage:
    python -m research.benchmarks.byte_budget --image examples/pictures/mushroom.png \
        --write docs/benchmarks/byte_budget.md

Two runs, each in a process of its own: without a cache, and with a budget that fills up. Features are kept where they
are largest, every view is drawn anew, and three of ten look for a feature. Nothing grows old and no queue is ever full,
so an entry leaves for one reason alone: the budget. Needs Linux with glibc.
"""

import argparse
import ctypes
import dataclasses
import datetime
import multiprocessing
import os
import subprocess
import tempfile
from pathlib import Path

import torch

from hash3d.cache import FeatureCache, Hash3DConfig
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.systems import zero123_gs
from hash3d.table.report import markdown_table
from hash3d.training.run import Run, peak_memory
from hash3d.training.trainer import Trainer

MEBIBYTE = 2**20
FORMATS = {"most held after a step": ".1f"}
"""Of the columns that are not whole numbers."""


def recipe(image: Path, mebibytes: int | None, steps: int) -> Recipe:
    """Of a run with a budget; None is without a cache."""
    cache = None
    if mebibytes is not None:
        cache = Hash3DConfig(
            reuse_probability=0.3, cut=-3, queue_length=steps, max_age=None, max_bytes=mebibytes * MEBIBYTE
        )
    whole = zero123_gs.recipe(image=image, prior="mini-zero123", cache=cache, steps=steps)
    stage = dataclasses.replace(whole.stage, view_order=ViewOrderConfig())
    return dataclasses.replace(whole, stage=stage, checkpoint_every=steps)


def held(cache: FeatureCache) -> int:
    """Bytes of all entries; it fails if they are not what the cache tracks, or if their memory is more than that."""
    tensors = [tensor for entry in cache.store.entries() for tensor in (entry.latents, entry.feature)]
    found = sum(tensor.nbytes for tensor in tensors)
    assert found == cache.store.num_bytes, f"{found} bytes held, {cache.store.num_bytes} tracked"
    storages = {storage.data_ptr(): storage.nbytes() for storage in (tensor.untyped_storage() for tensor in tensors)}
    assert sum(storages.values()) == found <= cache.max_bytes, f"{sum(storages.values())} bytes for {found}"
    return found


def resident() -> float:
    """MiB of the process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEBIBYTE


def run(image: Path, mebibytes: int | None, steps: int) -> dict[str, float]:
    """The columns of one run; it fails if the cache ever holds more than its budget, or never fills it."""
    sizes = []

    def check(trainer: Trainer, _: object) -> None:
        sizes.append(held(trainer.cache) if trainer.cache else 0)
        allowed = (mebibytes or 0) * MEBIBYTE
        assert sizes[-1] <= allowed, f"{sizes[-1]} bytes of {allowed} at step {trainer.step_count}"

    with tempfile.TemporaryDirectory() as folder:
        whole = Run(recipe(image, mebibytes, steps), Path(folder) / "run", progress=check)
        whole.train()
    full, cache = whole.summary([])["unet"]["full"], whole.trainer.cache
    entries = len(cache.store.entries()) if cache else 0
    if cache and entries == full:
        raise ValueError(f"Expected more steps than fit into {mebibytes} MiB, but got {steps}. Pass --steps.")
    before_trimming = {"peak of the process": peak_memory(torch.device("cpu")) / MEBIBYTE, "at the end": resident()}
    ctypes.CDLL(None).malloc_trim(0)
    return {
        "full passes": full,
        "entries at the end": entries,
        "left for the budget": full - entries if cache else 0,
        "most held after a step": max(sizes) / MEBIBYTE,
        "full from step": sizes.index(max(sizes)) + 1 if cache else 0,
        **before_trimming,
        "at the end, trimmed": resident(),
    }


def page(options: argparse.Namespace, runs: dict[str, dict[str, float]]) -> str:
    """The table and what it says."""
    off, on = runs.values()
    rows = [[name, *(format(row[head], FORMATS.get(head, ".0f")) for head in row)] for name, row in runs.items()]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    apart = {head: f"{on[head] - off[head]:.0f}" for head in on}
    lines = [
        "# The byte budget of the cache",
        "",
        f"`python -m research.benchmarks.byte_budget --image {options.image} --mebibytes {options.mebibytes} --steps "
        f"{options.steps}`, {os.cpu_count()} CPU cores, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"commit {commit.stdout.strip()}, {datetime.date.today()}. Memory in MiB.",
        "",
        *markdown_table(["cache", *off], rows),
        "",
        "After every step the tensors of all entries were summed up: they are what the cache tracks, to the byte, and",
        "lie in memory of their own, never more than the budget. The peaks lie "
        f"{apart['peak of the process']} MiB apart. At the end, after",
        "`malloc_trim` has given the heap's free pages back to the system, the two processes lie "
        f"{apart['at the end, trimmed']} MiB apart.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run both, print the page, and write it if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    budgets = {"none": None, f"{options.mebibytes} MiB": options.mebibytes}
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        given = [(options.image, budget, options.steps) for budget in budgets.values()]
        found = page(options, dict(zip(budgets, pool.starmap(run, given, chunksize=1), strict=True)))
    print(found)
    if options.write:
        options.write.write_text(found)


if __name__ == "__main__":
    main()
