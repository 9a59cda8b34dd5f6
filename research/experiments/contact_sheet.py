"""The picture of a page: a row an object; the input, true views, then the views of each variant."""

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from hash3d.evaluation.truth import load_truth
from hash3d.export.turntable import to_bytes
from hash3d.pictures import frame_picture, load_picture
from hash3d.table.objects import InputObject, Machine
from hash3d.table.worker import SHOWN_AZIMUTHS, VIEW_SIZE

from .job import StudyJob

MAX_OBJECTS = 6
HEADING = 16
"""Pixels of the line of names."""


def render_contact_sheet(jobs: Sequence[StudyJob], machine: Machine, shown: Sequence[str] = ()) -> Image.Image:
    """Of the first seed's jobs; what has not run stays white. `shown`: which variants, or all if none is there."""
    jobs = [job for job in jobs if job.variant in shown] or jobs
    seed = jobs[0].seed
    objects = list(dict.fromkeys(job.input for job in jobs if job.seed == seed))[:MAX_OBJECTS]
    labels = list(dict.fromkeys(job.label for job in jobs))
    with_truth = any(item.truth is not None for item in objects)
    lines = []
    for item in objects:
        true_views = [_true_views(item)] if with_truth else []
        by_label = {job.label: job for job in jobs if job.seed == seed and job.input == item}
        strips = [_views(machine.strip(by_label[label].identity)) for label in labels]
        lines.append([_input(item), *true_views, *strips])
    page = Image.new("RGB", (sum(cell.width for cell in lines[0]), HEADING + VIEW_SIZE * len(objects)), "white")
    draw, left = ImageDraw.Draw(page), 0
    for number, heading in enumerate(["input", *(["truth"] if with_truth else []), *labels]):
        draw.text((left + 4, 2), heading, fill="black")
        for row, line in enumerate(lines):
            page.paste(line[number], (left, HEADING + row * VIEW_SIZE))
        left += lines[0][number].width
    return page


def _input(item: InputObject) -> Image.Image:
    """The picture as a run sees it."""
    return Image.fromarray(to_bytes(frame_picture(load_picture(item.image or Path()), VIEW_SIZE).color_on_white))


def _blank() -> Image.Image:
    return Image.new("RGB", (VIEW_SIZE * len(SHOWN_AZIMUTHS), VIEW_SIZE), "white")


def _views(path: Path) -> Image.Image:
    """The strip that a run left."""
    return Image.open(path) if path.exists() else _blank()


def _true_views(item: InputObject) -> Image.Image:
    """The true views nearest to those shown of a run."""
    strip = _blank()
    if not item.truth:
        return strip
    truth = load_truth(item.truth)
    for number, azimuth in enumerate(SHOWN_AZIMUTHS):
        turn = torch.remainder(truth.cameras.azimuth - azimuth + 180.0, 360.0) - 180.0
        nearest = int((turn.abs() + truth.cameras.elevation.abs()).argmin())
        view = Image.fromarray(to_bytes(truth.images[nearest]))
        strip.paste(view.resize((VIEW_SIZE, VIEW_SIZE), Image.Resampling.BOX), (number * VIEW_SIZE, 0))
    return strip
