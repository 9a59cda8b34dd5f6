"""Which estimate of the deep feature is best? `python -m hash3d.experiments.estimators --objects FOLDER --out FOLDER`.

Measured on the states of real runs without a cache: a query of the present scene, and entries that are some steps old,
from a view some degrees round and a timestep somewhat later, with noise of their own.
"""

import copy
import functools
import multiprocessing
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from multiprocessing.pool import Pool
from pathlib import Path
from typing import Literal

import torch
import tyro
from rich.console import Console
from torch import Tensor

from hash3d.export.truth import load_truth
from hash3d.guidance.zero123 import Zero123Guidance
from hash3d.systems import zero123_gs
from hash3d.training.guide import load_zero123
from hash3d.training.run import frame_reference
from hash3d.training.trainer import Trainer

from .command import leave
from .estimators_page import write_page
from .job import Thing, find_things
from .measured import describe_machine, require_device
from .passes import keep_timing
from .residuals import Passes
from .runner import Rows, Say
from .states import Gap, State
from .worker import TRACEBACK_LINES, Machine, Row, pick_device

SNAPSHOTS, AGE, OF_STEPS = (30, 100, 200), 20, 300
"""Steps of a run of 300 at which estimates are made, and the age of the entries; shorter runs have shorter ones."""
UNKNOWN_ELEVATION = 5.0
"""Of pictures without true views, in degrees."""
DIGITS = 4


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure estimates of the deep feature on the states of runs, and write the page."""

    objects: Path
    """A folder of objects: folders with input.png and views.json, or pictures."""
    out: Path
    """Folder of estimators.jsonl, a line an object. What has a line there is not measured again."""
    page: Path = Path("docs/experiments/estimators")
    """The page without its ending; its .md is written."""
    prior: str = "mini-zero123"
    """A folder, or an embedded prior's name."""
    steps: int = OF_STEPS
    """Optimisation steps that the runs are planned for; they end at two thirds."""
    views: int = 4
    """Views of a state."""
    noises: int = 8
    """Noises of a view and timestep."""
    timesteps: tuple[int, ...] = (100, 300, 500, 700, 900)
    """Of the queries."""
    cuts: tuple[int, ...] = (5, 7, 8)
    """Where features are kept; one of them is the default."""
    seed: int = 0
    """Of the runs, the views and the noise."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run; several GPUs are shared evenly."""
    workers: int = 1
    """Objects at a time."""
    hardware: str | None = None
    """For the page; by default what the machine says."""
    commit: str = "unknown"
    """For the page."""

    def settings(self) -> Row:
        """What makes two lines of an object the same measurement."""
        kept = {name: getattr(self, name) for name in ("steps", "views", "noises", "seed")}
        return {
            "prior": Path(self.prior).name, **kept, "timesteps": list(self.timesteps), "cuts": list(self.cuts)
        }  # fmt: skip


def start_run(thing: Thing, options: Options, device: torch.device) -> Trainer:
    """A run of zero123_gs without a cache, at its first step."""
    elevation = load_truth(thing.path).reference_elevation if thing.has_truth else UNKNOWN_ELEVATION
    recipe = zero123_gs.recipe(
        image=thing.image, prior=options.prior, cache=None, scale="mini", steps=options.steps, seed=options.seed,
        elevation=elevation,
    )  # fmt: skip
    prior = load_zero123(options.prior, device)
    return Trainer(recipe, prior, frame_reference(recipe, prior, thing.image))


def measure(thing: Thing, options: Options, machine: Machine) -> Row:
    """One run, stopped at each snapshot to compare the estimates. Returns the object's row."""
    torch.set_num_threads(machine.threads)
    trainer = start_run(thing, options, pick_device(machine.device))
    assert isinstance(trainer.guidance, Zero123Guidance)
    passes = Passes(trainer.guidance.prior, trainer.guidance.config.guidance_scale, options.cuts)
    if passes.default_cut not in options.cuts:
        raise ValueError(f"Expected the default cut {passes.default_cut} among --cuts, but got {options.cuts}.")
    generator = torch.Generator().manual_seed(options.seed)
    age = max(round(AGE * options.steps / OF_STEPS), 1)
    cells: dict[tuple[str, int, Gap], list[Tensor]] = defaultdict(list)
    for snapshot in SNAPSHOTS:
        step = max(round(snapshot * options.steps / OF_STEPS), age)
        advance(trainer, step - age)
        earlier = copy.deepcopy(trainer.scene.model)
        advance(trainer, step)
        state = State(
            trainer, passes, earlier, age=age, views=options.views, noises=options.noises,
            timesteps=options.timesteps, generator=generator,
        )  # fmt: skip
        for name, cut, gap, figures in state.compare():
            cells[name, cut, gap].append(figures)
    means = {place: torch.stack(figures).mean(0).double() for place, figures in cells.items()}
    return {
        "object": thing.name,
        "settings": options.settings(),
        "default_cut": passes.default_cut,
        "cells": [
            {"estimator": name, "cut": cut, **asdict(gap), "figures": mean.round(decimals=DIGITS).tolist()}
            for (name, cut, gap), mean in means.items()
        ],
        **machine.account(),
    }


def advance(trainer: Trainer, step: int) -> None:
    """Optimise up to a step."""
    while trainer.step_count < step:
        trainer.step()


def attempt(thing: Thing, options: Options, machine: Machine) -> tuple[Thing, Row | str]:
    """An object and its row; or why it failed, so that the others go on."""
    try:
        return thing, measure(thing, options, machine)
    except Exception:
        return thing, "\n".join(traceback.format_exc().splitlines()[-TRACEBACK_LINES:])


def measure_missing(
    things: Sequence[Thing], options: Options, rows: Rows, machine: Machine, *, pool: Pool | None = None, say: Say
) -> int:
    """Measure objects and keep their rows. Returns how many failed. `pool`: who works; by default new processes."""
    num_failed = 0
    with pool or multiprocessing.get_context("spawn").Pool(min(machine.workers, len(things))) as workers:
        each = functools.partial(attempt, options=options, machine=machine)
        for thing, result in workers.imap_unordered(each, things):
            if isinstance(result, str):
                num_failed += 1
                say(f"FAILED {thing.name}\n{result}")
            else:
                rows.append(result)
                say(f"{thing.name}: measured")
    return num_failed


def main(arguments: list[str] | None = None) -> int:
    """Measure the objects that have no line yet, then write the page. Returns the exit code: 1 if one failed."""
    options = tyro.cli(Options, prog="python -m hash3d.experiments.estimators", args=arguments)
    rows, things, settings = Rows(options.out, "estimators"), find_things(options.objects), options.settings()
    machine = describe_machine(
        options.out, options.device, workers=options.workers, hardware=options.hardware, commit=options.commit
    )
    say = Console(highlight=False, soft_wrap=True, markup=False).print

    def found() -> dict[str, Row]:
        return {row["object"]: row for row in rows.read() if row.get("settings") == settings}

    done = found()
    missing = [thing for thing in things if thing.name not in done]
    if missing:
        require_device(options.device)
        if rows.timing(options.device) is None:
            keep_timing(rows, options.prior, machine)
    num_failed = measure_missing(missing, options, rows, machine, say=say) if missing else 0
    done = found()
    measured = [done[thing.name] for thing in things if thing.name in done]
    timing = rows.timing(options.device)
    if measured and timing:
        write_page(options.page, measured, timing["pass_ms"], command(options))
    return 1 if num_failed else 0


def command(options: Options) -> str:
    """What makes the same rows elsewhere."""
    words = [f"python -m hash3d.experiments.estimators --objects {options.objects.name}"]
    defaults = {field.name: field.default for field in fields(Options)}
    for name in ("steps", "views", "noises", "timesteps", "cuts", "seed"):
        value = getattr(options, name)
        told = " ".join(map(str, value)) if isinstance(value, tuple) else value
        words += [f"--{name} {told}"] if value != defaults[name] else []
    return " ".join([*words, f"--device {options.device}"])


if __name__ == "__main__":
    leave(main, "estimators")
