"""Trains `mini-elevation`, which tells from how high above the horizon an image was taken.

    python -m prior_training.elevation --out FOLDER --seconds 90 --meshes FOLDER --objects FOLDER...

Each step's views of the world are rendered for it. The images of `--objects` (folders with a `views.json` each)
measure it.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hash3d.files import write_json
from hash3d.pictures.classifier import ImageClassifier
from hash3d.pictures.elevation import mean_elevations

from .autoencoder import to_images
from .classifier_training import ClassifierConfig, ClassifierTraining
from .matcher_views import augment
from .mesh_views import read_views
from .novel_views import INPUT, framed_input, scanned_views
from .view_buffer import ELEVATION, FRONT_AZIMUTH, FRONT_CONDITIONS, FRONT_VIEWS, USUAL_ELEVATION, Table, orbit
from .world import render
from .world.catalogue import HELD_OUT

logger = logging.getLogger(__name__)

ELEVATIONS = [float(each) for each in range(int(ELEVATION[0]), int(ELEVATION[1]) + 1, 5)]
"""What the classifier tells apart, in degrees."""
FIRST_HELD_OUT = HELD_OUT + 4_000_000
"""Objects from here on measure it."""
USUAL = (18.0, 15.0)
"""Mean and standard deviation in degrees of the elevations that people take pictures from, as far as we know."""
CONSTANTS = (5.0, 15.0, 20.0)
"""Elevations in degrees that everybody could say without a look at the image."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ClassifierConfig):
    """How it is trained."""

    objects: tuple[Path, ...] = ()
    """Folders of objects with true views, which measure it."""
    meshes: Path | None = None
    """Views of `prior_training.mesh_views`, learned from beside the world; those held out measure it."""
    mesh_share: float = 0.25
    """Share of the views that are theirs."""
    num_held_out: int = 2048
    """Views of as many other objects, which measure it."""
    widths: tuple[int, ...] = (24, 48, 72, 96)
    """Channels of the network's stages."""


def draw_views(
    table: Table, count: int, size: int, generator: torch.Generator
) -> tuple[UInt8[Tensor, "B H W 4"], Float[Tensor, " B"]]:
    """Views of the next `count` objects, most of them as people take pictures, and their elevations in degrees."""
    usual, high, around = torch.rand(3, count, generator=generator)
    front = torch.rand(count, generator=generator) < FRONT_CONDITIONS
    (low, top), (lowest, topmost) = USUAL_ELEVATION, ELEVATION
    elevation = torch.where(front, low + (top - low) * usual, lowest + (topmost - lowest) * high)
    azimuth = torch.where(front, FRONT_AZIMUTH[0] + (FRONT_AZIMUTH[1] - FRONT_AZIMUTH[0]) * around, 360 * around)
    return render(table.take(count), orbit(elevation, azimuth, size)), elevation


def choose_views(
    pixels: UInt8[Tensor, "N V H W 4"], elevation: Float[Tensor, "N V"], count: int, generator: torch.Generator
) -> tuple[UInt8[Tensor, "B H W 4"], Float[Tensor, " B"]]:
    """Rendered views of `draw_angles` and their elevations; as many as in `draw_views` are of the front."""
    half = elevation.shape[1] // 2
    front = torch.rand(count, generator=generator) < FRONT_CONDITIONS
    rows = torch.randint(len(elevation), (count,), generator=generator)
    fronts = torch.randint(FRONT_VIEWS, (count,), generator=generator)
    views = torch.where(front, fronts, torch.randint(half, 2 * half, (count,), generator=generator))
    return pixels[rows, views], elevation[rows, views]


def elevation_loss(scores: Float[Tensor, "B N"], elevation: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Cross entropy with an elevation's two neighbours in `ELEVATIONS`, weighted by how near they are."""
    values = torch.tensor(ELEVATIONS, device=scores.device)
    weights = (1 - (elevation[:, None] - values).abs() / (values[1] - values[0])).clamp_min(0)
    return -(weights * scores).sum(1).mean()


@torch.no_grad()
def expect_usual(classifier: ImageClassifier) -> None:
    """Have a trained classifier expect elevations of a normal distribution (USUAL) in place of those of its training.

    Bayes' rule: the logarithm of the ratio of their shares is added to the scores.
    """
    values = torch.tensor(ELEVATIONS)
    inside = (values >= USUAL_ELEVATION[0]) & (values <= USUAL_ELEVATION[1])
    trained = FRONT_CONDITIONS * inside / inside.sum() + (1 - FRONT_CONDITIONS) / len(values)
    usual = -0.5 * ((values - USUAL[0]) / USUAL[1]).square()
    classifier.head.bias.add_((usual - trained.log()).to(classifier.head.bias))


class Training(ClassifierTraining[TrainConfig, ImageClassifier]):
    """One training run of the elevation's classifier."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.table = Table(self.device, config.num_objects)
        self.meshes = read_views(config.meshes)[:2] if config.meshes else None

    def build(self) -> ImageClassifier:
        """The untrained classifier."""
        return ImageClassifier(self.config.widths, self.config.size, (len(ELEVATIONS),))

    def loss(self) -> Tensor:
        """Of views of the next objects."""
        count = self.config.batch_size
        others = int(count * self.config.mesh_share) if self.meshes else 0
        pixels, elevation = draw_views(self.table, count - others, self.config.size, self.generator)
        if self.meshes:
            more = choose_views(*self.meshes, others, self.generator)
            pixels, elevation = torch.cat([pixels, more[0].to(pixels)]), torch.cat([elevation, more[1]])
        with self.autocast():
            (scores,) = self.classifier.score(augment(pixels.to(self.device), self.noise))
        return elevation_loss(scores, elevation.to(self.device))

    def finish(self) -> None:
        """Writes the classifier, and its errors."""
        expect_usual(self.classifier.eval())
        self.classifier.write(self.config.out, {"elevations": ELEVATIONS})
        write_json(self.config.out / "accuracy.json", self.measure())

    @torch.no_grad()
    def measure(self) -> dict[str, dict[str, float]]:
        """Mean absolute errors in degrees, and those of constants: of held-out objects, of true views and of inputs."""
        config, device = self.config, self.device
        held_out = Table(device, config.num_held_out, FIRST_HELD_OUT)
        pixels, elevation = draw_views(held_out, config.num_held_out, config.size, self.generator)
        cases = {"held_out": (to_images(pixels.to(device)), elevation)}
        if config.meshes:
            pixels, elevation, _ = read_views(config.meshes, held_out=True)
            cases["held_out_meshes"] = to_images(pixels.flatten(0, 1)), elevation.flatten()
        for folder in config.objects:
            paths = sorted(path.parent for path in folder.glob("*/views.json"))
            views = [scanned_views(path, config.size) for path in paths]
            cases[f"{folder.name}_views"] = (
                torch.cat([t for _, t in views]),
                torch.cat([v.elevation for v, _ in views]),
            )
            inputs = [framed_input(path / INPUT, config.size, "auto") for path in paths]
            cases[f"{folder.name}_inputs"] = (
                torch.stack(inputs),
                torch.stack([v.reference_elevation[0] for v, _ in views]),
            )
        found: dict[str, dict[str, float]] = {}
        for name, (images, truth) in cases.items():
            parts = [mean_elevations(self.classifier, ELEVATIONS, part).cpu() for part in images.to(device).split(512)]
            errors = {"error": (torch.cat(parts) - truth).abs(), "bias": torch.cat(parts) - truth}
            errors |= {f"constant_{each:g}": (each - truth).abs() for each in CONSTANTS}
            found[name] = {"images": len(truth)} | {key: round(float(value.mean()), 2) for key, value in errors.items()}
            logger.info("%s %s", name, found[name])
        return found


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Training(tyro.cli(TrainConfig, args=arguments, description=__doc__)).run()


if __name__ == "__main__":
    main()
