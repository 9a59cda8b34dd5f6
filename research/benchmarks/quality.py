"""What the cache or replay costs each system in quality: every object and every prompt without and with it, same seeds.

Systems from a picture are compared with the true views of scanned objects; of what systems from a text make, the
shipped matcher says from eight views whether it is the object, and the colour, that was asked for.

Usage:
    python -m research.benchmarks.quality --objects FOLDER --runs outputs/quality --page docs/benchmarks/quality
    python -m research.benchmarks.quality --objects FOLDER --device cuda --workers 24 --systems dreamgaussian
    python -m research.benchmarks.quality --objects FOLDER --seconds 0  # the page alone, from RUNS/rows.jsonl

FOLDER holds a folder for each object: input.png, views.json and the true views. Rows are kept; runs with a row are not
made again.
"""

import argparse
import dataclasses
import functools
import json
import multiprocessing
import statistics
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch

from hash3d.cache import Hash3DConfig
from hash3d.diffusion.loading import embedded_folder
from hash3d.evaluation.metrics import compare
from hash3d.evaluation.reference_frame import find_reference_frame
from hash3d.evaluation.truth import load_truth
from hash3d.export.turntable import orbit, render_each, save_image
from hash3d.guidance.targets import ReplayConfig
from hash3d.pictures import load_picture
from hash3d.recipes.recipe import Recipe
from hash3d.scenes.build import show_model
from hash3d.scenes.show import colors
from hash3d.systems import SYSTEMS
from hash3d.table.machine import Machine, all_of, describe_machine
from hash3d.table.objects import find_objects
from hash3d.table.report import markdown_table
from hash3d.table.worker import pick_device
from hash3d.training import guide
from hash3d.training.outputs import preview
from hash3d.training.run import describe_passes, frame_reference
from hash3d.training.trainer import Trainer
from prior_training.matcher_network import Matcher
from prior_training.text_scores import score_views
from research.means import mean_and_error
from research.measured import write_measured

DESCRIPTIONS = {
    "blue_cup": "a blue cup", "conditioner": "a blue bottle", "glue_1": "a white bottle", "orange_cup": "an orange cup",
    "orion_pie": "a red box", "plastic_apple": "a red apple", "plastic_lemon": "a yellow lemon",
    "plastic_pear": "a green pear", "shampoo": "a white bottle", "soap": "a blue soap bar",
    "stapler_1": "a green stapler", "sugar_tub": "a green jar",
}  # fmt: skip
"""What the scanned objects are, for the system that wants a text beside the picture; others are "an object"."""
PROMPTS = (
    ("a red mug with a blue handle", "mug", "red"), ("a yellow teddy bear", "teddy bear", "yellow"),
    ("a green car", "car", "green"), ("a red mushroom", "mushroom", "red"), ("a blue teapot", "teapot", "blue"),
    ("a brown chair", "chair", "brown"), ("an orange pumpkin", "pumpkin", "orange"),
    ("a white snowman", "snowman", "white"), ("a purple hat", "hat", "purple"), ("a grey robot", "robot", "grey"),
    ("a pink pig", "pig", "pink"), ("a yellow duck", "duck", "yellow"), ("a black cat", "cat", "black"),
    ("a turquoise vase", "vase", "turquoise"), ("a blue bus", "bus", "blue"), ("a red house", "house", "red"),
    ("a green cactus", "cactus", "green"), ("a brown table", "table", "brown"), ("a grey rocket", "rocket", "grey"),
    ("a red apple", "apple", "red"),
)  # fmt: skip
"""A text, and the noun and the colour of the body that it names."""
Variant = Literal["off", "on", "replay"]
VIEWS, VIEW_ELEVATION, VIEW_SIZE = 8, 15.0, 128
QUESTION = __doc__.split("\n\n")[1].replace("\n", " ")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run."""

    system: str
    subject: str
    seed: int
    variant: Variant
    object: Path | None = None
    """Folder of a scanned object, for a system that starts from a picture."""
    prompt: str | None = None
    noun: str = ""
    color: str = ""

    @property
    def name(self) -> str:
        """Of its row and its picture."""
        return "-".join([self.system, self.subject.replace(" ", "_"), str(self.seed), self.variant])

    def recipe(self) -> Recipe:
        """What to run."""
        (system,) = (each for each in SYSTEMS if each.name == self.system)
        given: dict[str, Any] = {}
        if self.object is not None:
            given = {"image": self.object / "input.png", "elevation": load_truth(self.object).reference_elevation}
        if "prompt" in system.inputs:
            given["prompt"] = self.prompt
        given["replay_every"] = ReplayConfig().every if self.variant == "replay" else 0
        cache = Hash3DConfig(seed=self.seed) if self.variant == "on" else None
        return system.recipe(prior=system.embedded, cache=cache, scale="mini", seed=self.seed, **given)


def find_jobs(objects: Path, systems: list[str], seeds: list[int], variant: Variant = "on") -> list[Job]:
    """Every system's runs, without and with the cache or replay in turn. Each subject has seeds of its own."""
    inputs, jobs = find_objects(objects), list[Job]()
    for seed in seeds:
        for system in (each for each in SYSTEMS if each.name in systems):
            for number, item in enumerate(inputs if "image" in system.inputs else []):
                text = DESCRIPTIONS.get(item.name, "an object")
                jobs += both(variant, system.name, item.name, 100 * seed + number, object=item.path, prompt=text)
            for number, (prompt, noun, color) in enumerate(PROMPTS if "image" not in system.inputs else []):
                jobs += both(variant, system.name, noun, 100 * seed + number, prompt=prompt, noun=noun, color=color)
    return jobs


def both(variant: Variant, system: str, subject: str, seed: int, **given: Any) -> list[Job]:
    """The run without and with the cache or replay."""
    variants: tuple[Variant, Variant] = ("off", variant)
    return [Job(system=system, subject=subject, seed=seed, variant=each, **given) for each in variants]


load_stable_diffusion = functools.cache(guide.load_stable_diffusion)
load_zero123 = functools.cache(guide.load_zero123)
"""A worker loads each prior once."""


def run(job: Job, machine: Machine) -> dict[str, Any]:
    """One run and its metrics; a failure is a row with an error."""
    try:
        return {"name": job.name, **measure(job, machine), **machine.account()}
    except Exception:
        return {"name": job.name, "error": traceback.format_exc(limit=-3), **machine.account()}


def measure(job: Job, machine: Machine) -> dict[str, Any]:
    """All stages of a run, without a run folder."""
    torch.set_num_threads(machine.threads)
    device, recipe = pick_device(machine.device), job.recipe()
    loaders = {"image": load_zero123, "text": load_stable_diffusion}
    priors = {name: loaders[name](prior, device) for name, prior in recipe.priors.items()}
    prior = next(iter(priors.values()))
    picture = frame_reference(recipe, prior, load_picture(recipe.image)) if recipe.image else None
    passes, started = [], time.perf_counter()
    trainer = Trainer(recipe, priors, picture)
    try:
        while True:
            while not trainer.completed:
                trainer.step()
            passes += [describe_passes(*guidance.count_passes()) for guidance in trainer.guidances.values()]
            if trainer.is_last:
                break
            trainer = trainer.next_stage()
    finally:
        trainer.close()
    total = time.perf_counter() - started
    show = show_model(trainer.scene.model, trainer.stage, prior)
    save_image(preview(colors(show), recipe, picture), machine.runs / "views" / f"{job.name}.png")
    row: dict[str, Any] = {"seconds": {"total": total, **trainer.stopwatch.seconds()}}
    row |= describe_passes(sum(int(each["full"]) for each in passes), sum(int(each["shallow"]) for each in passes))
    if job.object is not None:
        frame = find_reference_frame(recipe, job.object / "input.png")
        return {**row, **compare(show, load_truth(job.object), frame)["mean"]}
    config = recipe.stages[-1].cameras
    views = orbit(VIEWS, VIEW_ELEVATION, config.radius, config.fov_y, VIEW_SIZE)
    pictures = torch.stack(render_each(colors(show), views)).permute(0, 3, 1, 2) * 2.0 - 1.0
    scores = score_views(Matcher.load(embedded_folder("mini-matcher")), pictures, job.noun, job.color)
    return {**row, **dataclasses.asdict(scores)}


def pairs(rows: dict[str, Any], jobs: list[Job], system: str) -> list[tuple[Any, Any]]:
    """A system's rows without and with the cache, where both are there."""
    names = [job.name for job in jobs if job.system == system]
    return [(rows[off], rows[on]) for off, on in zip(names[::2], names[1::2], strict=True) if {off, on} <= rows.keys()]


def means(found: list[tuple[Any, Any]], name: str) -> tuple[float, float]:
    """Of a figure, off and on."""
    off, on = (statistics.mean(row[name] for row in side) for side in zip(*found, strict=True))
    return off, on


def image_table(rows: dict[str, Any], jobs: list[Job]) -> list[str]:
    """PSNR, SSIM and IoU of the systems from a picture."""
    heads = ("system", "runs", "PSNR off", "PSNR on", "difference", "SSIM off", "on", "IoU off", "on", "reused")
    lines = []
    for system in (each.name for each in SYSTEMS if "image" in each.inputs):
        found = pairs(rows, jobs, system)
        if not found:
            continue
        change, error = mean_and_error(torch.tensor([on["psnr"] - off["psnr"] for off, on in found]).double())
        (psnr, on), ssim, iou = (means(found, name) for name in ("psnr", "ssim", "iou"))
        reused = statistics.mean(row["reuse_share"] for _, row in found)
        lines.append(
            (system, str(len(found)), f"{psnr:.2f}", f"{on:.2f}", f"{change:+.2f} +- {error:.2f}",
             *(f"{value:.3f}" for value in (*ssim, *iou)), f"{reused:.0%}")
        )  # fmt: skip
    return markdown_table(heads, lines)


def text_table(rows: dict[str, Any], jobs: list[Job]) -> list[str]:
    """Shares of the runs in which the matcher finds the object and its colour."""
    heads = ("system", "runs", "object found off", "on", "colour found off", "on", "reused")
    lines = []
    for system in (each.name for each in SYSTEMS if "image" not in each.inputs):
        found = pairs(rows, jobs, system)
        if found:
            shares = [*means(found, "noun_found"), *means(found, "color_found")]
            reused = statistics.mean(row["reuse_share"] for _, row in found)
            lines.append((system, str(len(found)), *(f"{share:.0%}" for share in (*shares, reused))))
    return markdown_table(heads, lines)


def write_page(rows: dict[str, Any], jobs: list[Job], page: Path) -> None:
    """The two tables and how they were made."""
    made = list(rows.values())
    account = "; ".join(f"{name} {all_of(made, name)}" for name in ("device", "hardware", "commit", "date"))
    lines = [f"`python -m research.benchmarks.quality --objects FOLDER`; {account}", "", *image_table(rows, jobs), ""]
    write_measured(page, "What the cache costs each system", QUESTION, [*lines, *text_table(rows, jobs)])


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--runs", type=Path, default=Path("outputs/quality"))
    parser.add_argument("--page", type=Path, default=Path("docs/benchmarks/quality"))
    parser.add_argument("--systems", nargs="+", choices=names, default=names)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--variant", choices=get_args(Variant)[1:], default="on")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no run after so many seconds")
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    jobs = find_jobs(options.objects, options.systems, options.seeds, options.variant)
    machine = describe_machine(options.runs, options.device, workers=options.workers, commit=options.commit)
    (options.runs / "views").mkdir(parents=True, exist_ok=True)
    path, deadline = options.runs / "rows.jsonl", time.monotonic() + options.seconds
    lines = path.read_text().splitlines() if path.exists() else []
    rows = {row["name"]: row for row in map(json.loads, lines) if "error" not in row}
    due = [job for job in jobs if job.name not in rows] if options.seconds else []
    with multiprocessing.get_context("spawn").Pool(min(machine.workers, len(due) or 1)) as pool, path.open("a") as file:
        for row in pool.imap_unordered(functools.partial(run, machine=machine), due):
            file.write(json.dumps(row) + "\n")
            file.flush()
            rows |= {} if "error" in row else {row["name"]: row}
            print(row["name"], row.get("error", f"{row.get('psnr', 0.0):.2f} {row.get('noun', '')}"), flush=True)
            if time.monotonic() > deadline:
                break
    write_page(rows, jobs, options.page)


if __name__ == "__main__":
    main()
