"""Measures the novel views of a prior on objects it was never trained on, and renders contact sheets.

python -m prior_training.evaluate_views --prior FOLDER --out FOLDER
    [--baseline FOLDER] [--scanned FOLDER] [--pictures FOLDER]
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.export.turntable import save_image, tile
from hash3d.files import write_text
from hash3d.table.report import markdown_table

from .novel_views import (
    NovelViews,
    RelativePose,
    Sampler,
    framed_input,
    held_out_views,
    random_pairs,
    scanned_views,
    view,
)
from .pose_test import pose_test
from .view_scores import capped_psnr, cells, score, to_unit
from .world import Objects, sample_objects
from .world.catalogue import HELD_OUT

logger = logging.getLogger(__name__)

ELEVATION = 15.0
POSES = (
    RelativePose(azimuth=30.0),
    RelativePose(azimuth=90.0),
    RelativePose(azimuth=180.0),
    RelativePose(elevation=45.0),
    RelativePose(reference_elevation=45.0),
)
"""Round at an elevation of 15 degrees; up by 30 degrees; and down by 30, which is the same two views the other way.
All lie within the elevations of training (-20 to 80 degrees)."""
FIRST_OBJECT = HELD_OUT + 1000
FIRST_OF_MEAN = HELD_OUT + 100_000
SHEET_OBJECTS = 16
SHEET_VIEWS = (2, 5, 8, 11)
"""Which of a scanned object's true views are shown."""
SHEET_AZIMUTHS = (0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)
COLUMNS = ["median PSNR", "mean PSNR", "SSIM", "IoU"]
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is measured."""

    prior: Path
    """Folder of the prior."""
    out: Path
    """Folder for `evaluation.json`, `evaluation.md` and the contact sheets."""
    baseline: Path | None = None
    """Folder of a second prior, to stand beside the first in every table."""
    scanned: Path | None = None
    """Folder of folders of true views (`views.json`, its pictures, `input.png`), one a scanned object."""
    pictures: Path | None = None
    """Folder of pictures of objects, to generate novel views of (elevation of the pictures: 15 degrees)."""
    num_objects: int = 200
    """Held-out objects."""
    num_mean_objects: int = 512
    """Other held-out objects, whose mean view is the best constant guess."""
    num_pairs: int = 1000
    """Pairs of views for the pose test, each of another held-out object."""
    guidance_scales: tuple[float, ...] = (1.5, 2.0, 3.0)
    """Each is measured; the middle one is shown."""
    num_steps: int = 40
    """DDIM steps."""
    seed: int = 0
    """Of the noise."""


def asymmetric(objects: Objects, size: int) -> Bool[Tensor, " V"]:
    """Objects that look different from the side and from behind: copying the front gives less than 20 dB for both."""
    front, side, back = (to_unit(view(objects, azimuth, ELEVATION, size)) for azimuth in (0.0, 90.0, 180.0))
    pairs = zip(front, side, back, strict=True)
    return torch.tensor([max(capped_psnr(image, other) for other in others) < 20 for image, *others in pairs])


def mean_view(objects: Objects, pose: RelativePose, size: int) -> Float[Tensor, "3 S S"]:
    """The mean of the objects' true views at a pose: of all constant guesses, the one of least squared error."""
    return view(objects, pose.azimuth, pose.elevation, size).mean(0)


class Evaluation:
    """One evaluation of a prior, and of a baseline if there is one; `run` does it all."""

    def __init__(self, config: EvaluateConfig) -> None:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        folders = {"prior": config.prior} | ({"baseline": config.baseline} if config.baseline else {})
        self.priors = {name: Zero123Prior.load(folder, device=self.device) for name, folder in folders.items()}
        sizes = [prior.image_size for prior in self.priors.values()]
        if len(set(sizes)) > 1:
            raise ValueError(f"Expected a baseline of the prior's {sizes[0]} pixels a side, but got {sizes[1]}.")
        self.size = sizes[0]
        batch_size = 200 if self.device.type == "cuda" else 8
        self.sampler = Sampler(num_steps=config.num_steps, seed=config.seed, batch_size=batch_size)
        self.shown = config.guidance_scales[len(config.guidance_scales) // 2]

    def sample(self, first: int, count: int) -> Objects:
        """`count` objects from number `first` on."""
        return sample_objects(first + torch.arange(count, device=self.device))

    def guesses(self, views: NovelViews, truth: Tensor) -> Iterator[tuple[str, Float[Tensor, "V 3 S S"]]]:
        """Each method's name and its pictures. The autoencoder sees the truth: no sample of its prior can be better."""
        yield "copying the input", views.inputs
        for name, prior in self.priors.items():
            for scale in self.config.guidance_scales:
                yield f"{name}, guidance {scale:g}", self.sampler.sample(prior, views, scale)
            yield f"{name}, autoencoder of the truth", self.sampler.reconstruct(prior, truth)

    def held_out(self) -> tuple[list[Row], int]:
        """A row of scores a pose and method, and the number of asymmetric objects; writes `held_out.png`."""
        objects = self.sample(FIRST_OBJECT, self.config.num_objects)
        others = self.sample(FIRST_OF_MEAN, self.config.num_mean_objects)
        chosen = asymmetric(objects, self.size)
        rows, sheet = [], list(to_unit(view(objects[slice(0, SHEET_OBJECTS)], 0.0, ELEVATION, self.size)))
        columns = len(sheet)
        for pose in POSES:
            views, truth = held_out_views(objects, pose, self.size)
            pictures = {"mean view": mean_view(others, pose, self.size).expand_as(truth)}
            pictures |= dict(self.guesses(views, truth))
            for method, images in pictures.items():
                scores = score(images, truth)
                row = {"view": str(pose), "method": method, "all": scores.summary()}
                rows.append(row | ({"asymmetric": scores.summary(chosen)} if chosen.any() else {}))
                logger.info("%s", rows[-1])
            sheet += [*to_unit(truth[:columns]), *to_unit(pictures[f"prior, guidance {self.shown:g}"][:columns])]
        save_image(tile(sheet, columns), self.config.out / "held_out.png")
        return rows, int(chosen.sum())

    def scanned(self, folder: Path) -> list[Row]:
        """A row of scores an object and method, and one over all objects ("mean"); writes `scanned.png`."""
        folders = sorted(path.parent for path in folder.glob("*/views.json"))
        if not folders:
            raise ValueError(f"Expected folders of true views in {folder}, but no folder in it holds a views.json.")
        views, truth = zip(*(scanned_views(each, self.size) for each in folders), strict=True)
        owner = torch.cat([torch.full((len(each),), row) for row, each in enumerate(views)])
        asked, true_views = NovelViews.concatenate(list(views)), torch.cat(truth)
        rows, shown = [], true_views
        for method, images in self.guesses(asked, true_views):
            scores = score(images, true_views)
            names = enumerate(each.name for each in folders)
            rows += [{"object": name, "method": method, "all": scores.summary(owner == row)} for row, name in names]
            rows.append({"object": "mean", "method": method, "all": scores.summary()})
            logger.info("%s", rows[-1])
            shown = images if method == f"prior, guidance {self.shown:g}" else shown
        sheet = []
        for row in range(len(folders)):
            given, seen, images = (to_unit(each.cpu()[owner == row]) for each in (asked.inputs, true_views, shown))
            places = [index % len(given) for index in SHEET_VIEWS]
            sheet += [given[0], *(picture for place in places for picture in (seen[place], images[place]))]
        save_image(tile(sheet, 1 + 2 * len(SHEET_VIEWS)), self.config.out / "scanned.png")
        return rows

    def pose_tests(self) -> list[Row]:
        """A row a prior."""
        views, truth = random_pairs(self.sample(FIRST_OBJECT, self.config.num_pairs), self.size, self.config.seed)
        batch = self.sampler.batch_size
        return [{"method": name, **pose_test(prior, views, truth, batch)} for name, prior in self.priors.items()]

    def pictures(self, folder: Path) -> None:
        """Write a contact sheet per guidance scale: each picture, then its views all round."""
        paths = sorted(folder.glob("*.png"))
        if not paths:
            raise ValueError(f"Expected PNG pictures in {folder}, but it holds none.")
        count = len(SHEET_AZIMUTHS)
        inputs = torch.stack([framed_input(path, self.size, "auto") for path in paths])
        angles = torch.full((len(paths) * count,), ELEVATION)
        views = NovelViews(
            inputs=inputs.repeat_interleave(count, dim=0),
            reference_elevation=angles,
            elevation=angles,
            relative_azimuth=torch.tensor(SHEET_AZIMUTHS).repeat(len(paths)),
        )
        for scale in self.config.guidance_scales:
            images = self.sampler.sample(self.priors["prior"], views, scale).cpu().unflatten(0, (len(paths), count))
            sheet = to_unit(torch.cat([inputs[:, None], images], dim=1).flatten(0, 1))
            save_image(tile(list(sheet), count + 1), self.config.out / f"pictures_{scale:g}.png")

    def run(self) -> Row:
        """Writes everything; returns what `evaluation.json` holds."""
        config = self.config
        config.out.mkdir(parents=True, exist_ok=True)
        scanned = self.scanned(config.scanned) if config.scanned else []
        if config.pictures:
            self.pictures(config.pictures)
        held_out, num_asymmetric = self.held_out()
        metrics: Row = {
            "num_objects": config.num_objects,
            "num_asymmetric": num_asymmetric,
            "num_steps": config.num_steps,
            "held_out": held_out,
            "pose_test": self.pose_tests(),
            "scanned": scanned,
        }
        write_text(config.out / "evaluation.json", json.dumps(metrics, indent=1) + "\n")
        write_text(config.out / "evaluation.md", report(metrics))
        return metrics


def report(metrics: Row) -> str:
    """The tables of `evaluation.md`."""
    counts = f"{metrics['num_objects']} objects, {metrics['num_asymmetric']} of them asymmetric"
    header = ["view", "", *COLUMNS, *(f"asymmetric: {name}" for name in COLUMNS)]
    rows = [
        [row["view"], row["method"], *cells(row["all"]), *cells(row.get("asymmetric"))] for row in metrics["held_out"]
    ]
    pose_rows = [
        [row["method"], f"{row['loss']:.4f}", f"{row['loss_15_degrees_off']:.4f} ({100 * (row['ratio'] - 1):+.0f} %)"]
        for row in metrics["pose_test"]
    ]
    lines = [
        f"Held-out objects ({counts}; {metrics['num_steps']} DDIM steps)",
        "",
        *markdown_table(header, rows, words=2),
        "",
        "Pose test: held-out loss at t = 800",
        "",
        *markdown_table(["", "right pose", "azimuth 15 degrees off"], pose_rows),
        *(scanned_report(metrics["scanned"]) if metrics["scanned"] else ()),
    ]
    return "\n".join(lines) + "\n"


def scanned_report(rows: list[Row]) -> list[str]:
    """Two tables: the mean over all views, and mean PSNR / SSIM / IoU by object, a column a method."""
    means = [[row["method"], *cells(row["all"])] for row in rows if row["object"] == "mean"]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    found = {(row["object"], row["method"]): cells(row["all"]) for row in rows}
    names = list(dict.fromkeys(row["object"] for row in rows))
    by_object = [[name, *(" / ".join(found[name, method][1:]) for method in methods)] for name in names]
    return [
        "",
        "Scanned objects, all true views",
        "",
        *markdown_table(["", *COLUMNS], means),
        "",
        "Scanned objects: mean PSNR / SSIM / IoU",
        "",
        *markdown_table(["object", *methods], by_object),
    ]


def evaluate(config: EvaluateConfig) -> Row:
    """Measures, writes and returns the metrics."""
    return Evaluation(config).run()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    evaluate(tyro.cli(EvaluateConfig, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
