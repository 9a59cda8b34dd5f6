"""Steps of a system's first stage on a GPU, recorded and not, in one process.

Usage: python -m research.benchmarks.recorded_step [SYSTEM] [--steps 64] [--warm-up 32] [--write recorded.md]

Random full-size weights. Rows: with and without reuse, in graphs or not: milliseconds a step of a loop without waits,
milliseconds in which the device works, and the last step's losses, which agree as far as float16 and
another rasteriser let them.
"""

import argparse
import time
from pathlib import Path

import torch

from hash3d.bench.measure import OFF_FAST, OURS, Case, Contestant
from hash3d.cli.bench import load, parse
from hash3d.recipes.recipe import Recipe


def main() -> None:
    """Print a line a case, and write them if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("system", nargs="?", default="zero123_gs")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--warm-up", type=int, default=32)
    parser.add_argument("--write", type=Path)
    options = parser.parse_args()
    with load(parse([options.system, "--prior", "random", "--device", "cuda"])) as (recipe, models):
        lines = measure(recipe, models, options)
    if options.write:
        options.write.write_text("\n".join(lines) + "\n")


def measure(recipe: Recipe, models: Models, options: argparse.Namespace) -> list[str]:
    """Return a line a case."""
    lines = []
    for graphs in (True, False):
        for cache in (None, recipe.cache):
            case = Case(name=OURS if cache else OFF_FAST, cache=cache, engine="auto", unreused=OFF_FAST)
            contestant = Contestant(case, recipe, models)
            trainer = contestant.trainer
            if not graphs:
                trainer.recorded = trainer.recorded_fit = None
            begin = time.perf_counter()
            trainer.step()
            torch.cuda.synchronize()
            first = time.perf_counter() - begin
            contestant.run(options.warm_up - 1, measured=False)
            torch.cuda.synchronize()
            begin = time.perf_counter()
            rows = [trainer.step() for _ in range(options.steps)]
            torch.cuda.synchronize()
            ms = 1000.0 * (time.perf_counter() - begin) / options.steps
            contestant.profile(8)
            shown = {name: f"{value:.4g}" for name, value in rows[-1].items()}
            active = trainer.recorded is not None and trainer.recorded.is_active
            lines.append(
                f"{case.name}, graphs {active}: {ms:.2f} ms a step, device {contestant.result().device_ms:.2f}, "
                f"first step {first:.2f} s, {shown}"
            )
            print(lines[-1], flush=True)
            trainer.close()
    return lines


if __name__ == "__main__":
    main()
