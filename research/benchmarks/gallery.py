"""Every system with the cache off and on, at mini scale: pictures, seconds and memory side by side.

Usage:
    python -m research.benchmarks.gallery --runs outputs/gallery         # runs what is missing, then writes the page
    python -m research.benchmarks.gallery --runs outputs/gallery --page  # the page alone
    python -m research.benchmarks.gallery --systems zero123_gs sds_gs --threads 2

A run is `hash3d generate SYSTEM ... --out RUNS/SYSTEM-on --replay-every 0`, or RUNS/SYSTEM-off with --no-cache, in a
process of its own, so that its peak memory is its own. One that is done stays, one that was stopped goes on.
"""

import argparse
import dataclasses
import datetime
import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from hash3d.cli.generate import build_recipe, parse
from hash3d.cli.progress import size
from hash3d.files import replacing, write_text
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.serialize import difference
from hash3d.systems import SYSTEMS
from hash3d.table.objects import all_of
from hash3d.table.report import markdown_table
from hash3d.training.run_folder import RunFolder
from research.measured import write_measured

from .command import command_line

INPUTS = {
    "zero123_gs": {"image": "burger.png"},
    "zero123_nerf": {"image": "mushroom.png"},
    "dreamgaussian": {"image": "top_hat.png"},
    "magic123": {"image": "mushroom.png", "prompt": "a red mushroom"},
    "sds_gs": {"prompt": "a red mug with a blue handle"},
    "dreamfusion": {"prompt": "a yellow teddy bear"},
    "latent_nerf": {"prompt": "a green car"},
    "magic3d": {"prompt": "a red mushroom"},
    "gaussiandreamer": {"prompt": "a green car"},
}
OTHERS = {"image": "mushroom.png", "prompt": "a red mug with a blue handle"}
"""What a system that is not named above starts from, as far as it needs it."""
PICTURES = Path("examples/pictures")
CACHES = ("off", "on")
WIDTH = 1200
"""Pixels of a strip."""
MADE = "gallery.json"
"""In a run's folder: with what it was made."""
QUESTION = (
    "What each system makes with the embedded priors, and what the cache changes: above without it, below with it. The "
    "two runs have the same cameras, noise and initialisation. Each is one run, so its seconds have no error bar."
)
HEADS = ("cache", "steps", "seconds", "U-Net s", "render s", "reused", "peak memory", "scene", "files")


def main() -> int:
    """Run what is missing, and write the page. Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [system.name for system in SYSTEMS]
    parser.add_argument("--systems", nargs="+", choices=names, default=names, metavar="SYSTEM")
    parser.add_argument("--runs", type=Path, default=Path("outputs/gallery"))
    parser.add_argument("--out", type=Path, default=Path("docs/gallery"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--commit", default=None, help="by default what git says")
    parser.add_argument("--hardware", default=f"{os.cpu_count()} CPU cores")
    options = parser.parse_args()
    failed = []
    if not options.page:
        made = {"commit": options.commit or commit(), "hardware": options.hardware, "threads": options.threads}
        jobs = [(name, cache) for name in options.systems for cache in CACHES]
        failed = [f"{name}-{cache}" for name, cache in jobs if not run(options.runs, name, cache, made)]
    command = command_line().replace(" --page", "")
    write_page(options.out, options.runs, options.systems, command=command)
    if failed:
        print(f"Expected {', '.join(failed)} to finish, but they did not. Their messages are above.", file=sys.stderr)
    return 1 if failed else 0


def commit() -> str:
    """Of the working tree, with a plus if it has changes."""
    told = [
        subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()
        for arguments in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "--untracked-files=no"])
    ]
    return told[0] + ("+" if told[1] else "")


def run(runs: Path, name: str, cache: str, made: dict[str, Any]) -> bool:
    """Run a system in a process of its own unless it is done. Returns whether it is done now.

    Raises:
        ValueError: the folder's run, begun or done, is of another recipe than the system has today.
    """
    folder = runs / f"{name}-{cache}"
    command = generate_command(folder, name, cache)
    if (folder / "recipe.json").exists():
        differs = difference(RunFolder(folder).read_recipe(), build_recipe(parse(command[1:])))
        if differs:
            raise ValueError(f"Expected today's recipe in {folder}, but it differs in {differs}. Delete the folder.")
        command = ["generate", name, "--out", str(folder), "--resume"]
    if finished(folder):
        return True
    print(shlex.join(["hash3d", *command]), flush=True)
    threads = {name: str(made["threads"]) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")}
    code = subprocess.run([sys.executable, "-m", "hash3d", *command], env={**os.environ, **threads}).returncode
    if code == 0:
        write_text(folder / MADE, json.dumps({**made, "date": str(datetime.date.today())}) + "\n")
    return code == 0


def generate_command(folder: Path, name: str, cache: str) -> list[str]:
    """The arguments of `hash3d` that make a run."""
    (system,) = (system for system in SYSTEMS if system.name == name)
    given = {option: INPUTS.get(name, OTHERS)[option] for option in system.inputs}
    if "image" in given:
        given["image"] = str(PICTURES / given["image"])
    inputs = [part for option, value in given.items() for part in (f"--{option}", value)]
    return [
        "generate",
        name,
        *inputs,
        "--out",
        str(folder),
        *(["--replay-every", "0"] if system.replay_every else []),
        *(["--no-cache"] if cache == "off" else []),
    ]


def finished(folder: Path) -> dict[str, Any] | None:
    """The summary of a run that is done, or None."""
    summary = RunFolder(folder).read_summary()
    return summary if summary and summary["completed"] else None


def write_page(out: Path, runs: Path, names: Sequence[str], *, command: str) -> None:
    """Write README.md and a picture a system, of the systems with both runs; what is written by hand there stays.

    Raises:
        ValueError: no system has both runs, or the two of one differ in more than the cache.
    """
    ready = {name: pair(runs, name) for name in names if all(finished(runs / f"{name}-{cache}") for cache in CACHES)}
    if not ready:
        raise ValueError(f"Expected finished runs in {runs}, but no system has both. Leave --page away to make them.")
    out.mkdir(parents=True, exist_ok=True)
    sections = []
    for name, (recipe, summaries) in ready.items():
        folders = [runs / f"{name}-{cache}" for cache in CACHES]
        with replacing(out / f"{name}.jpg") as temporary:
            strips([folder / "preview.png" for folder in folders]).save(temporary, quality=85)
        rows = [(cache, *cells(folder, summaries[cache])) for cache, folder in zip(CACHES, folders, strict=True)]
        alternative = "views all round, above with the cache off, below with it on"
        picture = f"![{name}: {'the input and ' if recipe.image else ''}{alternative}]({name}.jpg)"
        sections += ["", f"## {name}", "", told_input(recipe), "", picture, "", *markdown_table(HEADS, rows)]
    lines = [f"`{command}`: {provenance(runs, ready)}.", ""]
    missing = [name for name in names if name not in ready]
    if missing:
        lines += [f"Not finished: {', '.join(missing)}.", ""]
    write_measured(out / "README", "Gallery", QUESTION, [*lines, *overview(ready), *sections])


Pair = tuple[Recipe, dict[str, dict[str, Any]]]
"""The recipe of two runs, and their summaries by CACHES."""


def pair(runs: Path, name: str) -> Pair:
    """The two finished runs of a system."""
    folders = {cache: runs / f"{name}-{cache}" for cache in CACHES}
    recipes = {cache: RunFolder(folder).read_recipe() for cache, folder in folders.items()}
    off, on = (dataclasses.replace(recipes[cache], cache=None) for cache in CACHES)
    differs = difference(off, on)
    if differs:
        raise ValueError(f"Expected the runs of {name} to differ in the cache alone, but they differ in {differs}.")
    if [recipe.cache is not None for recipe in recipes.values()] != [False, True]:
        raise ValueError(f"Expected {name}-off without a cache and {name}-on with one, but it is not so.")
    return on, {cache: finished(folder) or {} for cache, folder in folders.items()}


def provenance(runs: Path, ready: dict[str, Pair]) -> str:
    """From what and on what the runs were made; a run started by hand does not say so."""
    files = [runs / f"{name}-{cache}" / MADE for name in ready for cache in CACHES]
    made = [json.loads(path.read_text()) for path in files if path.exists()]
    devices = all_of([summary for _, both in ready.values() for summary in both.values()], "device")
    if not made:
        return f"device {devices}; runs started by hand, page of {datetime.date.today()}"
    told = (all_of(made, name) for name in ("hardware", "threads", "commit", "date"))
    return "device {}, {}, {} threads a run; commit {}; {}".format(devices, *told)


def overview(ready: dict[str, Pair]) -> list[str]:
    """A table with a row a system."""
    rows = []
    for name, (_, both) in ready.items():
        times = [f"{both[cache]['seconds'][part]:.0f}" for part in ("total", "unet") for cache in CACHES]
        rows.append((f"[{name}](#{name})", *times, f"{both['on']['unet']['reuse_share']:.0%}"))
    return markdown_table(("system", "seconds, off", "on", "U-Net s, off", "on", "passes reused"), rows)


def told_input(recipe: Recipe) -> str:
    """What the runs started from, and whom they asked."""
    inputs = [f"`{recipe.image.name}`"] if recipe.image else []
    inputs += [f'"{recipe.prompt}"'] if recipe.prompt else []
    priors = " and ".join(recipe.priors.values())
    return f"From {' and '.join(inputs)}; {priors}."


def cells(folder: Path, summary: dict[str, Any]) -> list[str]:
    """A run's cells, one for each of HEADS but the first."""
    seconds = summary["seconds"]
    scene = " then ".join(size(stage["scene"]) for stage in summary["stages"])
    assets = [name for name in summary["outputs"] if name.startswith("model.")]
    return [
        " + ".join(f"{stage['steps']:,}" for stage in summary["stages"]),
        *(f"{seconds[part]:.0f}" for part in ("total", "unet", "render")),
        f"{summary['unet']['reuse_share']:.0%}",
        f"{summary['peak_memory_bytes'] / 1e9:.1f} GB",
        scene,
        ", ".join(f"{name}{in_megabytes(folder / name)}" for name in assets),
    ]


def in_megabytes(path: Path) -> str:
    """The size of a file, if it was kept."""
    return f" {path.stat().st_size / 1e6:.1f} MB" if path.exists() else ""


def strips(paths: Sequence[Path]) -> Image.Image:
    """Pictures of one shape below each other, WIDTH pixels wide."""
    pictures = [Image.open(path).convert("RGB") for path in paths]
    height = round(WIDTH * pictures[0].height / pictures[0].width)
    page = Image.new("RGB", (WIDTH, height * len(pictures)), "white")
    for row, picture in enumerate(pictures):
        page.paste(picture.resize((WIDTH, height), Image.Resampling.LANCZOS), (0, row * height))
    return page


if __name__ == "__main__":
    sys.exit(main())
