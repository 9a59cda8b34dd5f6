"""`hash3d table --objects FOLDER --prompts FILE --out FOLDER`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from hash3d.systems import SYSTEMS

from .options import STABLE_DIFFUSION_21, STABLE_ZERO123
from .parsing import Maybe, parse_options
from .streams import print_table, say

if TYPE_CHECKING:
    from hash3d.table.objects import Row

    from .table_jobs import TableJob

Reuse = Literal["off", "paper", "released", "default", "replay"]
SMOKE_STEPS = 300


@dataclass(frozen=True, kw_only=True)
class Table:
    """Run systems on objects and prompts without and with reuse, and compare: table.md, table.csv, rows.jsonl.

    Only what has no row yet is run, so that the command can be stopped, repeated and extended. Runs of one input and
    seed have the same start in all settings; off, paper and released have the same cameras and noise.
    """

    out: Path
    """Folder of the rows, of a strip of views for each run, and of the tables."""
    objects: Maybe[Path] = None
    """For systems that start from an image: a picture, or a folder of objects as `hash3d render-views` makes them. A
    prompt.txt beside an object's views is its text for magic123, else the folder's name."""
    prompts: Maybe[Path] = None
    """For systems that start from a text: a file with a prompt on each line."""
    systems: tuple[str, ...] = tuple(system.name for system in SYSTEMS)
    """Which; those without an input are left out."""
    cache: tuple[Reuse, ...] = get_args(Reuse)
    """Settings, of which the first is what the others are compared with. off: the whole U-Net at every step, every view
    anew. paper, released, default: `hash3d generate --preset`. replay: denoised views that are kept, as
    generate has it by itself."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each input is run with each of them."""
    prior: Maybe[str] = None
    """The Zero123 of systems from an image: a folder, an embedded prior or a hub name; by default the embedded one."""
    text_prior: Maybe[str] = None
    """The Stable Diffusion of systems from a text, and of magic123."""
    scale: Maybe[Literal["mini", "supplement", "released"]] = None
    """As `hash3d generate` has it."""
    steps: Maybe[int] = None
    """Optimisation steps; by default each recipe's."""
    preset: Maybe[Literal["smoke"]] = None
    """smoke: one object and one prompt, off and with the default's reuse, for 300 steps at full scale with published
    weights from the hub; a page with pictures."""
    metrics: tuple[Literal["flip", "lpips_vgg", "lpips_alex", "clip_b32", "clip_l14", "clip_g14"], ...] = ()
    """Further metrics, as `hash3d evaluate` has them; rows that are there keep those they were made with."""
    weights: Maybe[Path] = None
    """A folder of their weights."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run; several GPUs are shared evenly."""
    workers: int = 1
    """Runs at a time."""
    threads: Maybe[int] = None
    """CPU threads of a run; by default the cores shared evenly."""
    ray: Maybe[str] = None
    """The address of a Ray cluster whose machines make the runs ("auto": the one that this machine belongs to)."""
    seconds: Maybe[float] = None
    """Stop after this time; runs under way are lost. 0 writes the tables of what is there."""
    commit: str = "unknown"
    """Of the code, for the rows."""


def main(arguments: list[str]) -> int:
    """Run what is missing, and write the tables. Returns the exit code: 1 if a run failed."""
    options = apply_preset(parse_options(Table, "table", arguments))
    from hash3d.files import write_text
    from hash3d.table.objects import describe_machine
    from hash3d.table.runner import Rows, run_missing, told

    from .host import require_device, start_ray
    from .table_jobs import list_jobs

    jobs = list_jobs(options)
    if options.seconds != 0:
        require_device(options.device)
    machine = describe_machine(
        options.out.resolve(), options.device, workers=options.workers, threads=options.threads, commit=options.commit,
        metrics=options.metrics, weights=options.weights and options.weights.resolve(),
    )  # fmt: skip
    rows = Rows(options.out)
    rows.claim("table.md", "table.csv", "views")
    pool = None
    if options.ray and options.seconds != 0:
        pool = start_ray(options.ray, machine.workers, machine.threads, machine.device)
    failed = run_missing(jobs, rows, machine, seconds=options.seconds, pool=pool, say=say)
    with told(rows.path):
        tables = make_tables(options, jobs, rows.of(jobs))
    for name, text in tables.items():
        write_text(options.out / name, text)
    return 1 if failed else 0


def apply_preset(options: Table) -> Table:
    """Return the options with what a preset chooses where nothing else was given."""
    if options.preset is None:
        return options
    return replace(
        options,
        systems=("zero123_gs", "sds_gs") if options.systems == Table.systems else options.systems,
        cache=("off", "default") if options.cache == Table.cache else options.cache,
        seeds=options.seeds[:1],
        steps=options.steps or SMOKE_STEPS,
        scale=options.scale or "supplement",
        prior=options.prior or STABLE_ZERO123,
        text_prior=options.text_prior or STABLE_DIFFUSION_21,
    )


def make_tables(options: Table, jobs: "Sequence[TableJob]", rows: "Sequence[Row]") -> dict[str, str]:
    """Print the table. Returns what table.md and table.csv hold."""
    from hash3d.table.objects import all_of, provenance
    from hash3d.table.report import LEGEND, markdown_table, summarize, to_csv

    heads, lines = summarize(rows, options.systems, options.cache)
    print_table(heads, lines)
    page = [f"# {len(rows)} of {len(jobs)} runs", ""]
    if rows:
        versions = ", ".join(f"{name} {all_of(rows, name)}" for name in ("hash3d", "torch", "diffusers"))
        priors = sorted({str(each["prior"]) for row in rows for each in row["unets"].values()})
        page += [f"{provenance(rows)}; {versions}; priors {', '.join(priors)} (pose: {all_of(rows, 'pose')}); steps "
                 f"{all_of(rows, 'steps')}.", ""]  # fmt: skip
    page += [*markdown_table(heads, lines, words=2), "", LEGEND]
    if options.preset:
        strips = {job.identity: f"{job.study}, {job.label}, {job.input.name}" for job in jobs}
        page += [f"\n![{said}](views/{'-'.join(map(str, place))}.jpg)\n{said}" for place, said in strips.items()]
    return {"table.md": "\n".join(page) + "\n", "table.csv": to_csv(rows, options.systems, options.cache)}
