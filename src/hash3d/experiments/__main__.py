"""Run a study and write its page: `python -m hash3d.experiments STUDY --objects FOLDER --runs FOLDER`.

Only what has no row yet is run, so the command can be stopped and repeated, and a page can be made from rows that
another machine has left.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console

from hash3d.training.run import load_prior

from .job import find_jobs, find_things
from .page import write_page
from .passes import time_passes
from .runner import Rows, run_missing
from .studies import STUDIES
from .study import Study
from .table import SHALLOW_COST
from .worker import Machine


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run a study's variants on a folder of objects, paired, and write its page."""

    study: tyro.conf.Positional[str]
    """Which experiment."""
    objects: Path
    """A folder of objects: folders with input.png, views.json and true views, or pictures."""
    runs: Path = Path("outputs/experiments")
    """Where rows and views are kept."""
    page: Path | None = None
    """The page without its ending; by default docs/experiments/STUDY. Its .md and .jpg are written."""
    runs_only: bool = False
    """Make no page."""
    seeds: tuple[int, ...] = (0,)
    """Each object is run with each of them."""
    variants: tuple[str, ...] = ()
    """Which of the study's variants; by default all. The first is what the others are compared with."""
    priors: tuple[str, ...] = ("mini-zero123",)
    """Diffusion models; with several, every variant is run with each."""
    scale: Literal["mini", "supplement", "released"] = "mini"
    """The base recipe's settings."""
    steps: int | None = None
    """Optimisation steps; by default the base recipe's."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run; several GPUs are shared evenly."""
    workers: int = 1
    """Runs at a time."""
    threads: int | None = None
    """CPU threads of a run; by default the cores shared evenly."""
    seconds: float | None = None
    """Stop after this time; runs under way are lost. 0 makes the page of what is there."""
    shallow_cost: float = SHALLOW_COST
    """Cost of a shallow pass in full passes, where the study does not time it."""
    hardware: str | None = None
    """For the page; by default what the machine says."""
    commit: str = "unknown"
    """For the page."""


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then write the page. Returns the exit code: 1 if a run failed."""
    options = tyro.cli(
        Options, prog="python -m hash3d.experiments", args=arguments, config=(tyro.conf.FlagCreatePairsOff,)
    )
    if options.study not in STUDIES:
        raise ValueError(f"Expected a study ({', '.join(STUDIES)}), but got {options.study!r}.")
    study, rows, machine = STUDIES[options.study], Rows(options.runs, options.study), _machine(options)
    jobs = find_jobs(
        study, find_things(options.objects), seeds=options.seeds, variants=options.variants, priors=options.priors,
        scale=options.scale, steps=options.steps,
    )  # fmt: skip
    if study.times_passes and rows.pass_milliseconds() is None and options.seconds != 0:
        _time_passes(study, options, rows, machine)
    console = Console(highlight=False, soft_wrap=True, markup=False)
    failed = run_missing(jobs, rows, machine, seconds=options.seconds, say=console.print)
    if not options.runs_only:
        page = options.page or Path("docs/experiments") / study.name
        write_page(
            page, study, jobs, rows, machine, command=command(options), shallow_cost=options.shallow_cost
        )  # fmt: skip
    return 1 if failed else 0


def command(options: Options) -> str:
    """What makes the same rows elsewhere."""
    words = [f"python -m hash3d.experiments {options.study} --objects {options.objects.name}"]
    words.append(f"--seeds {' '.join(map(str, options.seeds))}")
    words += [f"--variants {' '.join(map(repr, options.variants))}"] if options.variants else []
    words += [f"--priors {' '.join(Path(prior).name for prior in options.priors)}"] if len(options.priors) > 1 else []
    words += [f"--scale {options.scale}"] if options.scale != "mini" else []
    words += [f"--steps {options.steps}"] if options.steps else []
    return " ".join([*words, f"--device {options.device}"])


def _machine(options: Options) -> Machine:
    if options.workers < 1:
        raise ValueError(f"Expected at least 1 worker, but got {options.workers}.")
    cores = os.cpu_count() or 1
    on_gpu = options.device == "cuda"
    if on_gpu and not torch.cuda.is_available() and options.seconds != 0:
        raise ValueError("Expected a CUDA device for --device cuda, but torch sees none. Pass --device cpu.")
    return Machine(
        runs=options.runs,
        device=options.device,
        workers=options.workers,
        threads=options.threads or max(cores // options.workers, 1),
        hardware=options.hardware or (_name_gpus() if on_gpu else f"{cores} CPU cores"),
        commit=options.commit,
    )


def _name_gpus() -> str:
    return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"


def _time_passes(study: Study, options: Options, rows: Rows, machine: Machine) -> None:
    """Time full and shallow passes while nothing else runs, and keep them as a row of their own."""
    torch.set_num_threads(machine.threads)
    prior = load_prior(options.priors[0], torch.device(options.device))
    rows.append({"study": study.name, "prior": options.priors[0], "pass_ms": time_passes(prior), **machine.account()})


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (ValueError, OSError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"hash3d.experiments: {error}", markup=False)
        sys.exit(2)
