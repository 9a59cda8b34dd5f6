"""The byte budget of the cache over a whole run: what it tracks after every step, and what the process really took.

Usage:
    python benchmarks/byte_budget.py --image examples/pictures/mushroom.png --mebibytes 256

Two runs, each in a process of its own: with the budget, and with one of 1 MiB, whose peak memory is the run's without
a cache. Every view is drawn anew and nothing grows old, so that each full pass adds an entry until the budget is full.
"""

import argparse
import dataclasses
import datetime
import multiprocessing
import tempfile
from pathlib import Path

from hash3d.cache import Hash3DConfig
from hash3d.systems import zero123_gs
from hash3d.training.draws import DrawOrderConfig
from hash3d.training.run import Run

MEBIBYTE = 2**20


def run(image: Path, mebibytes: int, steps: int) -> dict[str, float]:
    """One run; it fails if the cache ever tracks more than its budget."""
    cache = Hash3DConfig(max_bytes=mebibytes * MEBIBYTE, max_age=None, cut=-2, correction=False)
    recipe = zero123_gs.recipe(image=image, prior="mini-zero123", cache=cache, steps=steps)
    recipe = dataclasses.replace(recipe, stage=dataclasses.replace(recipe.stage, draws=DrawOrderConfig()))
    held = []

    def check(trainer, _):
        held.append(trainer.cache.store.num_bytes)
        assert held[-1] <= mebibytes * MEBIBYTE, f"{held[-1]} bytes of {mebibytes} MiB at step {trainer.step_count}"

    with tempfile.TemporaryDirectory() as folder:
        whole = Run(dataclasses.replace(recipe, checkpoint_every=steps), Path(folder) / "run", progress=check)
        whole.train()
        summary = whole.summary([])
    return {
        "steps": summary["steps"],
        "entries": len(whole.trainer.cache.store),
        "largest": max(held) / MEBIBYTE,
        "first_full": next((step + 1 for step, size in enumerate(held) if size > 0.99 * max(held)), 0),
        "peak": summary["peak_memory_bytes"] / MEBIBYTE,
    }


def main() -> None:
    """Run both, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--image", type=Path, required=True)
    parser.add_argument("--mebibytes", type=int, default=256)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks/byte_budget.md"))
    parser.add_argument("--hardware", default="2 CPU cores")
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    budgets = (1, options.mebibytes)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        results = pool.starmap(run, [(options.image, budget, options.steps) for budget in budgets], chunksize=1)
    lines = [
        "# The byte budget",
        "",
        f"`python benchmarks/byte_budget.py --image {options.image.name} --mebibytes {options.mebibytes} --steps "
        f"{options.steps}`, {options.hardware}, commit {options.commit}, {datetime.date.today()}.",
        "",
        "| budget, MiB | steps | entries at the end | most tracked after a step, MiB | full from step | peak memory "
        "of the process, MiB |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for budget, row in zip(budgets, results, strict=True):
        lines.append(
            f"| {budget} | {row['steps']} | {row['entries']} | {row['largest']:.1f} | {row['first_full']} | "
            f"{row['peak']:.0f} |"
        )
    lines += ["", f"The peaks are {results[1]['peak'] - results[0]['peak']:.0f} MiB apart."]
    options.page.write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
