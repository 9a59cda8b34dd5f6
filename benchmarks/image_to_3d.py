"""Image to 3D over a folder of objects, the cache off and on: figures against true views, and a picture page.

Usage:
    python benchmarks/image_to_3d.py --objects path/to/scanned --runs outputs/scanned --page docs/benchmarks/scanned
    python benchmarks/image_to_3d.py --objects path/to/pictures --runs outputs/pictures --page docs/benchmarks/pictures
    python benchmarks/image_to_3d.py ... --priors path/to/before path/to/after --presets off --device cuda --workers 16

An object is a folder with input.png, views.json and true views, or a picture. Runs that are there already are kept, so
the command can be stopped and repeated. The runs of one object differ in the cache (or the prior) alone: same seed,
same cameras. On several GPUs the workers share them evenly.
"""

import argparse
import datetime
import json
import multiprocessing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from hash3d.cache import PRESETS
from hash3d.cameras import Cameras
from hash3d.cli.evaluate import evaluate
from hash3d.export.points import write_ply
from hash3d.export.truth import load_truth
from hash3d.export.turntable import render_each, tile, to_bytes
from hash3d.pictures import frame_picture, load_picture
from hash3d.systems import zero123_gs
from hash3d.training.outputs import MODEL, load_scene, views_on_white
from hash3d.training.run import Run

SHOWN_AZIMUTHS = (45.0, 90.0, 180.0, 270.0)
CELL = 128


@dataclass(frozen=True)
class Case:
    """One run."""

    name: str
    image: Path
    truth: Path | None
    variant: str
    preset: str
    prior: str
    folder: Path
    device: str
    seed: int
    elevation: float
    threads: int
    commit: str


@dataclass(frozen=True)
class Column:
    """One figure of a result."""

    name: str
    value: Callable[[dict], float | None]
    format: str


COLUMNS = (
    Column("PSNR", lambda row: row.get("psnr"), ".2f"),
    Column("SSIM", lambda row: row.get("ssim"), ".3f"),
    Column("IoU", lambda row: row.get("iou"), ".3f"),
    Column("seconds", lambda row: row["seconds"]["total"], ".0f"),
    Column("U-Net seconds", lambda row: row["seconds"]["unet"], ".0f"),
    Column("reuse", lambda row: row["reuse_share"], ".0%"),
)


def find_variants(options: argparse.Namespace) -> dict[str, tuple[str, str]]:
    """What is compared: every prior with every preset, by name."""
    if len(options.priors) == 1:
        return {preset: (options.priors[0], preset) for preset in options.presets}
    return {
        " ".join([Path(prior).name, preset][: len(options.presets)]): (prior, preset)
        for prior in options.priors
        for preset in options.presets
    }


def pick_device(name: str) -> str:
    """One of the GPUs for each worker, evenly; other devices as they are."""
    if name != "cuda":
        return name
    number = multiprocessing.current_process()._identity[0] - 1
    return f"cuda:{number % torch.cuda.device_count()}"


def find_cases(options: argparse.Namespace) -> list[Case]:
    """Every object with every preset."""
    cases = []
    for path in sorted(options.objects.iterdir()):
        is_folder = path.is_dir()
        image, truth = (path / "input.png", path) if is_folder else (path, None)
        if image.suffix != ".png" or not image.exists():
            continue
        elevation = load_truth(truth).reference_elevation if truth else options.elevation
        for variant, (prior, preset) in find_variants(options).items():
            folder = options.runs / f"{path.stem}-{variant.replace(' ', '-')}"
            cases.append(
                Case(
                    path.stem, image, truth, variant, preset, prior, folder, options.device, options.seed, elevation,
                    options.threads, options.commit,
                )
            )  # fmt: skip
    return cases


def run_case(case: Case) -> dict:
    """One run and its figures; what a finished run left is read, not made again."""
    torch.set_num_threads(case.threads)
    result = case.folder / "result.json"
    if result.exists():
        return json.loads(result.read_text())
    cache = None if case.preset == "off" else PRESETS[case.preset]
    recipe = zero123_gs.recipe(
        image=case.image, prior=case.prior, scale="mini", cache=cache, seed=case.seed, elevation=case.elevation
    )
    device = pick_device(case.device)
    run = Run(recipe, case.folder, device=device, resume=True)
    run.train()
    write_ply(case.folder / MODEL, run.trainer.scene)
    summary = run.summary([MODEL])
    figures = evaluate(case.folder, case.truth, torch.device(device))["mean"] if case.truth else {}
    row = {"object": case.name, "variant": case.variant, "commit": case.commit, **figures}
    row |= {"reuse_share": summary["unet"]["reuse_share"], "seconds": summary["seconds"]}
    result.write_text(json.dumps(row) + "\n")
    print(json.dumps(row), flush=True)
    return row


def table(rows: list[dict], variants: list[str]) -> list[str]:
    """A line an object, then the means, then the paired differences to the first variant with their standard errors."""
    columns = [column for column in COLUMNS if column.value(rows[0]) is not None]
    heads = [f"{column.name} {variant}" for column in columns for variant in variants]
    by = {(row["object"], row["variant"]): row for row in rows}
    names = sorted({row["object"] for row in rows})
    cells = [[column.value(by[name, variant]) for column in columns for variant in variants] for name in names]
    formats = [column.format for column in columns for _ in variants]
    lines = [f"| object | {' | '.join(heads)} |", "| --- |" + " --- |" * len(heads)]
    for name, values in [*zip(names, cells, strict=True), ("**mean**", np.mean(cells, axis=0))]:
        lines.append(f"| {name} | " + " | ".join(map(format, values, formats)) + " |")
    lines.append("")
    for column in columns[:3]:
        for variant in variants[1:]:
            gaps = [column.value(by[name, variant]) - column.value(by[name, variants[0]]) for name in names]
            error = np.std(gaps, ddof=1) / len(gaps) ** 0.5
            lines.append(f"- {column.name}, {variant} minus {variants[0]}, paired: {np.mean(gaps):+.3f} +- {error:.3f}")
    return lines


def picture_row(name: str, cases: list[Case]) -> list[torch.Tensor]:
    """The input; the true views, if there are any; the views of each run."""
    first = cases[0]
    framed = frame_picture(load_picture(first.image), CELL)
    cells = [framed.color_on_white]
    cameras = Cameras.orbit(elevation=0.0, azimuth=list(SHOWN_AZIMUTHS), radius=1.5, fov_y=49.1, size=CELL)
    if first.truth:
        truth = load_truth(first.truth)
        for azimuth in SHOWN_AZIMUTHS:
            distance = (truth.cameras.azimuth - azimuth).abs() + truth.cameras.elevation.abs()
            view = Image.fromarray(to_bytes(truth.images[int(distance.argmin())]))
            cells.append(torch.from_numpy(np.array(view.resize((CELL, CELL), Image.Resampling.BOX))) / 255)
    for case in cases:
        device = torch.device(case.device)
        cells += render_each(views_on_white(load_scene(case.folder).to(device), device), cameras)
    return cells


def page_picture(cases: list[Case], variants: list[str]) -> Image.Image:
    """All objects, one row each, under a line of headings."""
    names = sorted({case.name for case in cases})
    rows = [picture_row(name, [case for case in cases if case.name == name]) for name in names]
    columns = len(rows[0])
    body = Image.fromarray(to_bytes(tile([cell for row in rows for cell in row], columns)))
    page = Image.new("RGB", (body.width, body.height + 16), "white")
    page.paste(body, (0, 16))
    draw = ImageDraw.Draw(page)
    groups = ["input", *(["truth"] if cases[0].truth else []), *variants]
    for number, group in enumerate(groups):
        column = 0 if number == 0 else 1 + (number - 1) * len(SHOWN_AZIMUTHS)
        draw.text((column * CELL + 4, 2), group, fill="black")
    return page


def main() -> None:
    """Run, measure, draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--objects", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--page", type=Path, required=True, help="without ending: .md and .jpg are written")
    parser.add_argument("--presets", nargs="+", default=["off", "default"])
    parser.add_argument("--priors", nargs="+", default=["mini-zero123"])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--elevation", type=float, default=5.0, help="of pictures without views.json")
    parser.add_argument("--hardware", default="2 CPU cores")
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    cases = find_cases(options)
    with multiprocessing.get_context("spawn").Pool(options.workers) as pool:
        rows = pool.map(run_case, cases, chunksize=1)
    page_picture(cases, list(find_variants(options))).save(options.page.with_suffix(".jpg"), quality=88)
    command = f"python benchmarks/image_to_3d.py --objects {options.objects.name} --presets {' '.join(options.presets)}"
    command += f" --priors {' '.join(Path(prior).name for prior in options.priors)}" if len(options.priors) > 1 else ""
    lines = [
        f"# Image to 3D: {options.objects.name}",
        "",
        f"`{command} --seed {options.seed}`, device {options.device}, {options.hardware}, commit {options.commit}, "
        f"{datetime.date.today()}.",
        "",
        f"![Input, views at azimuths {', '.join(f'{azimuth:.0f}' for azimuth in SHOWN_AZIMUTHS)} degrees]"
        f"({options.page.name}.jpg)",
        "",
        *table(rows, list(find_variants(options))),
    ]
    options.page.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
