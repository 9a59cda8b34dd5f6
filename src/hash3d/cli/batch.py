"""`hash3d batch JOBS --out FOLDER`: many runs, by workers that share a folder and nothing else.

A worker claims a job by a lock on a file of its own, which ends with the worker in whatever way: another takes the job
over and goes on from its checkpoint.
"""

import csv
import io
import multiprocessing
import multiprocessing.connection
import os
import shlex
import signal
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from . import fail, format_error
from .batch_jobs import JOB, BatchJob, Crew, place_jobs, read_jobs
from .parsing import Maybe, parse_options
from .streams import say

CANNOT = 2
"""Exit code of a worker that could do nothing, and has said why."""
SECONDS_BETWEEN_LOOKS = 1.0
"""At jobs that others have claimed, and at workers."""
WRITTEN = ("batch.csv", "sheet.jpg")
STRIP_WIDTH, STRIPS_HIGH = 1152, 200
"""Pixels of a run's row in the contact sheet, and the rows of a column."""


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Run many jobs, each in a folder of its own in --out, and write batch.csv and sheet.jpg.

    Finished ones are skipped, so that the command can be stopped, repeated and extended; one whose options, picture or
    prior are others now is made anew, beside. Options after a lone -- are those of `hash3d generate` for all jobs:
    hash3d batch photos --out assets -- --quality fast
    """

    jobs: tyro.conf.Positional[Path]
    """A folder of pictures; a text file with a prompt on each line; or JSON lines (.jsonl), each an object with "image"
    or "prompt", if need be "system" and "name", and any option of `hash3d generate`."""
    out: Path
    """The folder of the runs. Workers of several machines may share it: start the command on each."""
    system: Maybe[str] = None
    """The system of jobs that name none; by default zero123_gs for pictures and sds_gs for prompts."""
    workers: Annotated[int, tyro.conf.arg(help_behavior_hint="(default: 1)")] = 1
    """Runs at a time on this machine. Each worker loads a model once; several GPUs are shared evenly."""
    device: Maybe[Literal["cpu", "cuda"]] = None
    """Where to run; by default the GPU if there is one."""
    ray: Maybe[str] = None
    """The address of a Ray cluster that has the workers ("auto": this machine's); all see the folders at one path."""


def main(arguments: list[str]) -> int:
    """Run the jobs. Returns the exit code: 1 if one failed, 130 if the batch was stopped."""
    place = arguments.index("--") if "--" in arguments else len(arguments)
    options = parse_options(Batch, "batch", arguments[:place])
    if options.workers < 1:
        raise ValueError(f"Expected --workers to be at least 1, but got {options.workers}.")
    jobs = read_jobs(options.jobs, options.system, arguments[place + 1 :])
    jobs = place_jobs(jobs, options.out)  # A mistake is told before anything runs.
    import torch

    from hash3d.files import make_folder, write_bytes, write_text

    from .host import choose_device

    names = [name for name in WRITTEN if os.path.lexists(options.out / name)]
    if names and not (options.out / ".claims").exists():
        raise FileExistsError(f"Expected no {names[0]} of others in {options.out}, but it holds one. Pass another.")
    make_folder(options.out / ".claims")
    count = min(options.workers, len(jobs))
    threads = max(torch.get_num_threads() // count, 1)
    crew = Crew(tuple(jobs), options.out, choose_device(options.device).type, threads, uuid.uuid4().hex)
    stopped = oversee_ray(crew, count, options.ray) if options.ray else oversee(crew, count)
    if stopped is None:
        return 2
    write_text(options.out / "batch.csv", to_csv(crew))
    if sheet := make_sheet(crew):
        write_bytes(options.out / "sheet.jpg", sheet)
    done = sum(crew.summary(job) is not None for job in jobs)
    say(f"{done} of {len(jobs)} jobs are finished: {options.out / 'batch.csv'}")
    return 130 if stopped else int(done < len(jobs))


def oversee(crew: Crew, count: int) -> bool | None:
    """Start workers, and others in place of those that die, until all is settled.

    Returns whether they were stopped; None if one could not go on, and has said why.
    """
    from hash3d.training.stop import stop_requests

    context, workers, could_not = multiprocessing.get_context("spawn"), list[Any](), False

    def tell() -> None:
        for worker in workers:
            worker.terminate()

    def ask() -> None:
        say("finishing the step; press Ctrl+C again to quit at once", error=True)
        tell()

    with stop_requests(ask) as stopped, suppress(KeyboardInterrupt):
        missing = count
        while missing or workers:
            for _ in range(missing):
                workers.append(context.Process(target=work_or_say, args=(crew,)))
                workers[-1].start()
            multiprocessing.connection.wait([worker.sentinel for worker in workers], SECONDS_BETWEEN_LOOKS)
            ended = [worker for worker in workers if worker.exitcode is not None]
            workers[:] = [worker for worker in workers if worker not in ended]
            died = [worker.exitcode for worker in ended if worker.exitcode]
            missing = 0
            if CANNOT in died:
                could_not = True
                tell()
            elif died and not stopped() and not could_not and not all(map(crew.is_settled, crew.jobs)):
                say(f"a worker died ({died[0]}); another takes its job over")
                missing = len(died)
    tell()  # Those that a second Ctrl+C has left.
    return None if could_not else stopped()


def oversee_ray(crew: Crew, count: int, address: str) -> bool:
    """Let workers on a Ray cluster do the jobs; Ray starts one that dies again. Returns whether they were stopped."""
    from .host import start_ray

    with suppress(KeyboardInterrupt), start_ray(address, count, crew.threads, crew.device) as pool:
        pool.starmap(work_in, [(Path.cwd(), crew)] * count, chunksize=1)
        return False
    return True  # By Ctrl+C.


def work_in(folder: Path, crew: Crew) -> None:
    """Do jobs whose paths are relative to a folder."""
    os.chdir(folder)
    work(crew)


def work_or_say(crew: Crew) -> None:
    """Do jobs. Exits with 2 and one sentence where none could be done, as on a full disk."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # A terminal tells all processes; the parent asks for an end.
    try:
        work(crew)
    except (ValueError, OSError, ImportError) as error:
        fail(format_error(error))


def work(crew: Crew) -> None:
    """Do jobs that nobody does until all are settled; wait for those of others, whose workers may die."""
    due = list(crew.jobs)
    while due := [job for job in due if not crew.is_settled(job)]:
        claimed = False
        for job in due:
            with crew.claim(job) as mine:
                if mine and not crew.is_settled(job):
                    claimed = True
                    if not attempt(crew, job):
                        return  # Stopped: with a checkpoint.
        if not claimed:
            time.sleep(SECONDS_BETWEEN_LOOKS)


def attempt(crew: Crew, job: BatchJob) -> bool:
    """Run a job, or go on with it. Returns whether it ended, in whatever way; False if it was interrupted."""
    import torch

    from hash3d.files import make_folder, write_text
    from hash3d.table.worker import pick_device
    from hash3d.training.guide import keep_priors
    from hash3d.training.run_folder import RunFolder

    from .generate import build_recipe, run_recipe
    from .host import limit_threads

    torch.set_num_threads(crew.threads)
    limit_threads(crew.device)
    crew.note(job)
    try:
        options = job.options(crew.out, crew.device)
        recipe, device = build_recipe(options), pick_device(crew.device)
        options = replace(options, resume=RunFolder(options.out).holds_run)
        if not options.resume:
            make_folder(options.out)
            write_text(options.out / JOB, job.key)
        priors = keep_priors(recipe, device)
        summary = run_recipe(options, recipe, options.out, crew.device, priors=priors, quiet=True)
    except (ValueError, OSError, ImportError, RuntimeError) as error:
        crew.note(job, str(error) or type(error).__name__)
        say(f"FAILED {job.name}: {error}")
        return True
    done = sum(crew.summary(each) is not None for each in crew.jobs)
    if summary["completed"]:
        say(f"{done}/{len(crew.jobs)} {job.name}: {summary['steps']} steps, {summary['seconds']['total']:.0f} s")
    return bool(summary["completed"])


def to_csv(crew: Crew) -> str:
    """A line a job: its state, time and folder, and the last error of one that failed."""
    file = io.StringIO()
    table = csv.writer(file, lineterminator="\n")
    table.writerow(("job", "state", "system", "steps", "seconds", "folder", "error", "command"))
    for job in crew.jobs:
        summary, errors = crew.summary(job), [each for each in crew.errors(job) if each]
        state = "finished" if summary else "failed" if crew.is_settled(job) else "open"
        steps, seconds = (summary["steps"], round(summary["seconds"]["total"], 1)) if summary else ("", "")
        error = errors[-1] if errors and not summary else ""
        command = shlex.join(job.words)
        table.writerow((job.name, state, job.words[0], steps, seconds, crew.out / job.name, error, command))
    return file.getvalue()


def make_sheet(crew: Crew) -> bytes | None:
    """The previews of all finished jobs below each other, as a JPEG file; None without any."""
    from PIL import Image, ImageDraw

    from hash3d.export.turntable import encode_image, to_bytes
    from hash3d.pictures import load_picture

    strips = []
    for job in crew.jobs:
        with suppress(ValueError, OSError):
            strip = Image.fromarray(to_bytes(load_picture(crew.out / job.name / "preview.png")[..., :3]))
            strip.thumbnail((STRIP_WIDTH, STRIP_WIDTH))
            ImageDraw.Draw(strip).text((3, 1), job.name, fill="black")
            strips.append(strip)
    if not strips:
        return None
    high, rows = max(strip.height for strip in strips), min(len(strips), STRIPS_HIGH)
    sheet = Image.new("RGB", (STRIP_WIDTH * -(-len(strips) // rows), high * rows), "white")
    for number, strip in enumerate(strips):
        sheet.paste(strip, (STRIP_WIDTH * (number // rows), high * (number % rows)))
    return encode_image(sheet, "JPEG")
