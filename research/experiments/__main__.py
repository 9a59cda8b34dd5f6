"""Run studies and write their pages: `python -m research.experiments STUDY ... --objects FOLDER --runs FOLDER`.

Only what has no row yet is run, so the command can be stopped and repeated, and a page can be made from rows that
another machine has left.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console

from hash3d.cli.host import require_device
from hash3d.table.objects import Machine, describe_machine, find_objects
from hash3d.table.runner import Rows, run_missing

from .command import leave
from .job import StudyJob, find_jobs
from .page import write_page
from .passes import keep_timing
from .studies import STUDIES


@dataclass(frozen=True, kw_only=True)
class Options:
    """Run a study's variants on a folder of objects, paired, and write its page."""

    studies: tyro.conf.Positional[tuple[str, ...]]
    """Which experiments; a run that two of them ask for is made once. The first is run first, then the others side by
    side, object by object."""
    objects: Path = Path("objects")
    """A folder of objects: folders with input.png, views.json and true views, or pictures."""
    runs: Path = Path("outputs/experiments")
    """Where rows and views are kept."""
    pages: Path = Path("docs/experiments")
    """Folder of the pages: STUDY.md, STUDY.jpg and, of some, STUDY.png are written."""
    runs_only: bool = False
    """Make no page."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each object is run with each of them."""
    time_passes: bool = False
    """Time full and shallow passes of the prior on the device, for the pages' costs, and do nothing else."""
    variants: tuple[str, ...] = ()
    """Which of the study's variants; by default all. The first is what the others are compared with."""
    system: Literal["zero123_gs", "zero123_nerf"] = "zero123_gs"
    """The base; the supplement's B.1 and B.2 have zero123_nerf. The pages of another than zero123_gs have its name."""
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
    hardware: str | None = None
    """For the page; by default what the machine says."""
    commit: str = "unknown"
    """For the page."""


def main(arguments: list[str] | None = None) -> int:
    """Run what is missing, then write the page. Returns the exit code: 1 if a run failed."""
    options = tyro.cli(
        Options, prog="python -m research.experiments", args=arguments, config=(tyro.conf.FlagCreatePairsOff,)
    )
    rows, machine = Rows(options.runs), _machine(options)
    if options.time_passes:
        keep_timing(rows, options.priors[0], machine)
        return 0
    unknown = [name for name in options.studies if name not in STUDIES]
    if unknown or not options.studies:
        raise ValueError(f"Expected studies ({', '.join(STUDIES)}), but got {unknown[0] if unknown else 'none'!r}.")
    jobs = {name: _jobs(name, options) for name in options.studies}
    console = Console(highlight=False, soft_wrap=True, markup=False)
    first = jobs[options.studies[0]]
    others = [job for name in options.studies[1:] for job in jobs[name]]
    every = first + sorted(others, key=lambda job: (job.seed, job.input.name))
    failed = run_missing(every, rows, machine, seconds=options.seconds, say=console.print)
    for name in options.studies if not options.runs_only else ():
        write_page(
            options.pages / page_of(name, options), STUDIES[name], jobs[name], rows, machine,
            command=command(name, options)
        )  # fmt: skip
    return 1 if failed else 0


def _jobs(name: str, options: Options) -> list[StudyJob]:
    return find_jobs(
        STUDIES[name], find_objects(options.objects), seeds=options.seeds, variants=options.variants,
        system=options.system, priors=options.priors, scale=options.scale, steps=options.steps,
    )  # fmt: skip


def page_of(name: str, options: Options) -> str:
    """The page's name without an ending."""
    return name if options.system == "zero123_gs" else f"{name}_{options.system}"


def command(name: str, options: Options) -> str:
    """What makes the same rows elsewhere."""
    words = [f"python -m research.experiments {name} --objects {options.objects.name}"]
    words += [f"--seeds {' '.join(map(str, options.seeds))}"]
    words += [f"--variants {' '.join(map(repr, options.variants))}"] if options.variants else []
    words += [f"--priors {' '.join(Path(prior).name for prior in options.priors)}"] if len(options.priors) > 1 else []
    words += [f"--system {options.system}"] if options.system != "zero123_gs" else []
    words += [f"--scale {options.scale}"] if options.scale != "mini" else []
    words += [f"--steps {options.steps}"] if options.steps else []
    return " ".join([*words, f"--device {options.device}"])


def _machine(options: Options) -> Machine:
    if options.seconds != 0:
        require_device(options.device)
    return describe_machine(
        options.runs, options.device, workers=options.workers, threads=options.threads, hardware=options.hardware,
        commit=options.commit,
    )  # fmt: skip


if __name__ == "__main__":
    leave(main, "research.experiments")
