"""The page of a system's speed: `hash3d bench` beside DeepCache and the released code, and how it was measured.

Usage:
    python -m research.benchmarks.bench SYSTEM --write docs/benchmarks/SYSTEM.md [the options of `hash3d bench`]
"""

import argparse
import datetime
import shlex
from functools import partial
from pathlib import Path

import torch

from hash3d.bench.measure import measure
from hash3d.bench.summary import HEADS, speed_up, summarize
from hash3d.cli.bench import load, parse
from hash3d.table.objects import name_hardware
from hash3d.table.report import markdown_table
from hash3d.training.run import versions
from research.benchmarks.baselines import RELEASED_EAGER, fill_released, plan_baselines, sample_views
from research.measured import commit, write_measured

QUESTION = "How long does a step take without reuse, with DeepCache, with the released code's reuse, and with ours?"
NOTES = """\
Every case runs the same steps: the same cameras and the same noise, of one seed, in one process and on one set of
weights; engines differ in the diffusion models alone. Blocks of steps alternate in a rotating order. "ms a step" is
the mean, which is what a run pays; the parts add up to it. The released preset starts with a full table, as in the
middle of a long run. With reuse the median is that of the more frequent kind of step.
"times ..." is how often the case's mean step goes into the other's, with the quartiles from block to block."""


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, required=True, help="a page; text around its marks stays")
    parser.add_argument("--commit", default=commit())
    own, arguments = parser.parse_known_args()
    options = parse(arguments)
    with load(options) as (recipe, models):
        steps = range(options.warm_up, options.warm_up + options.steps)
        prior = next(iter(models[0].values()))
        draws = sample_views(recipe, num_timesteps=prior.schedule.num_timesteps, steps=steps)
        results = measure(
            recipe, models, steps=options.steps, warm_up=options.warm_up, say=partial(print, flush=True),
            others=plan_baselines(recipe, draws), prepare=partial(fill_released, draws=draws),
        )  # fmt: skip
    (released,) = (each for each in results if each.case.name == RELEASED_EAGER)
    over_released = [speed_up(each, released) for each in results]
    rows = [[*row.cells, over.show(over.mean, 2)] for row, over in zip(summarize(results), over_released, strict=True)]
    stage, device = recipe.stage, prior.device
    sizes = ", ".join(sorted({f"{value:.0f}" for _, value in stage.size.knots}))
    lines = [
        f"`python -m research.benchmarks.bench {shlex.join(arguments)}`, commit {own.commit}, "
        f"{name_hardware(device.type)}, {datetime.date.today()}, {versions()}.",
        "",
        f"Stage 1 of {recipe.system}, batches of {stage.cameras.batch_size} at {sizes} pixels, "
        f"{torch.get_num_threads()} CPU threads.",
        "",
        *markdown_table((*HEADS, "times released, eager"), rows),
        "",
        NOTES,
    ]
    write_measured(own.write.with_suffix(""), f"hash3d bench {recipe.system}", QUESTION, lines)


if __name__ == "__main__":
    main()
