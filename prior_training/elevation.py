"""Trains `mini-elevation`, which tells from how high above the horizon an image was taken.

    python -m prior_training.elevation --out FOLDER --seconds 90 --objects FOLDER...

Each step's views are rendered for it. The images of `--objects` (folders with a `views.json` each) measure it.
"""

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hash3d.files import write_json
from hash3d.pictures.classifier import ImageClassifier

from .autoencoder import to_images
from .matcher_views import augment
from .novel_views import framed_input, scanned_views
from .view_buffer import ELEVATION, FRONT_AZIMUTH, FRONT_CONDITIONS, USUAL_ELEVATION, Table, orbit
from .world import render
from .world.catalogue import HELD_OUT

logger = logging.getLogger(__name__)

ELEVATIONS = [float(each) for each in range(int(ELEVATION[0]), int(ELEVATION[1]) + 1, 5)]
"""What the classifier tells apart, in degrees."""
FIRST_HELD_OUT = HELD_OUT + 4_000_000
"""Objects from here on measure it."""
CONSTANTS = (5.0, 15.0, 20.0)
"""Elevations in degrees that everybody could say without a look at the image."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How it is trained."""

    out: Path
    """Folder for `config.json`, `model.safetensors`, `accuracy.json` and `training.jsonl`."""
    objects: tuple[Path, ...] = ()
    """Folders of objects with true views, which measure it."""
    seconds: float = 90.0
    """Time for everything but the last measurement."""
    batch_size: int = 512
    """Views a step."""
    learning_rate: float = 2e-3
    """Peak rate of AdamW; it rises over 100 steps and falls along a cosine."""
    num_objects: int = 131_072
    """Objects to render."""
    num_held_out: int = 2048
    """Views of as many other objects, which measure it."""
    widths: tuple[int, ...] = (24, 48, 72, 96)
    """Channels of the network's stages."""
    size: int = 128
    """Pixels of a side."""
    seed: int = 0
    """Seeds weights and samples."""
    max_steps: int = 10_000_000
    """Ends earlier, for tests."""


def draw_views(
    table: Table, count: int, size: int, generator: torch.Generator
) -> tuple[UInt8[Tensor, "B H W 4"], Float[Tensor, " B"]]:
    """Views of the next `count` objects as conditions of `mini-zero123` see them, and their elevations in degrees."""
    usual, high, around = torch.rand(3, count, generator=generator)
    front = torch.rand(count, generator=generator) < FRONT_CONDITIONS
    (low, top), (lowest, topmost) = USUAL_ELEVATION, ELEVATION
    elevation = torch.where(front, low + (top - low) * usual, lowest + (topmost - lowest) * high)
    azimuth = torch.where(front, FRONT_AZIMUTH[0] + (FRONT_AZIMUTH[1] - FRONT_AZIMUTH[0]) * around, 360 * around)
    return render(table.take(count), orbit(elevation, azimuth, size)), elevation


def elevation_loss(scores: Float[Tensor, "B N"], elevation: Float[Tensor, " B"]) -> Float[Tensor, ""]:
    """Cross entropy with an elevation's two neighbours in `ELEVATIONS`, weighted by how near they are."""
    values = torch.tensor(ELEVATIONS, device=scores.device)
    weights = (1 - (elevation[:, None] - values).abs() / (values[1] - values[0])).clamp_min(0)
    return -(weights * scores).sum(1).mean()


def expected(scores: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    """Mean elevations in degrees."""
    return scores.exp() @ torch.tensor(ELEVATIONS, device=scores.device)


class Training:
    """One training run; `run` does it all."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.started = config, time.monotonic()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = True
        config.out.mkdir(parents=True, exist_ok=True)
        self.noise = torch.Generator(self.device).manual_seed(config.seed)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.table = Table(self.device, config.num_objects)
        self.classifier = ImageClassifier(config.widths, config.size, (len(ELEVATIONS),)).to(self.device)

    def report(self, row: dict[str, float]) -> None:
        """One line of `training.jsonl`."""
        logger.info("%s", {name: round(value, 5) for name, value in row.items()})
        with (self.config.out / "training.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")

    def run(self) -> Path:
        """Trains, measures and writes the classifier; returns its folder."""
        config = self.config
        optimizer = torch.optim.AdamW(self.classifier.parameters(), lr=config.learning_rate, weight_decay=0.02)
        step, progress = 0, 0.0
        while progress < 1.0:
            rate = config.learning_rate * min(1.0, (step + 1) / 100) * (0.505 + 0.495 * math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = self._step(optimizer)
            step += 1
            if step % 10 == 0 or step >= config.max_steps:
                seconds = time.monotonic() - self.started
                progress = max(seconds / config.seconds, step / config.max_steps)
                if step % 100 == 0 or progress >= 1.0:
                    self.report({"step": step, "seconds": seconds, "loss": float(loss), "rate": rate})
        self.classifier.eval().write(config.out, {"elevations": ELEVATIONS})
        write_json(config.out / "accuracy.json", self.measure())
        return config.out

    def _step(self, optimizer: torch.optim.Optimizer) -> Tensor:
        """One step; returns its loss without waiting for it."""
        pixels, elevation = draw_views(self.table, self.config.batch_size, self.config.size, self.generator)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            (scores,) = self.classifier.score(augment(pixels.to(self.device), self.noise))
        loss = elevation_loss(scores, elevation.to(self.device))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.classifier.parameters(), 5.0)
        optimizer.step()
        return loss.detach()

    @torch.no_grad()
    def measure(self) -> dict[str, dict[str, float]]:
        """Mean absolute errors in degrees, and those of constants: of held-out objects, of true views and of inputs."""
        config, device = self.config, self.device
        held_out = Table(device, config.num_held_out, FIRST_HELD_OUT)
        pixels, elevation = draw_views(held_out, config.num_held_out, config.size, self.generator)
        cases = {"held_out": (to_images(pixels.to(device)), elevation)}
        for folder in config.objects:
            paths = sorted(path.parent for path in folder.glob("*/views.json"))
            views = [scanned_views(path, config.size) for path in paths]
            cases[f"{folder.name}_views"] = (
                torch.cat([t for _, t in views]),
                torch.cat([v.elevation for v, _ in views]),
            )
            inputs = [framed_input(path / "input.png", config.size, "auto") for path in paths]
            cases[f"{folder.name}_inputs"] = (
                torch.stack(inputs),
                torch.stack([v.reference_elevation[0] for v, _ in views]),
            )
        found: dict[str, dict[str, float]] = {}
        for name, (images, truth) in cases.items():
            parts = [expected(self.classifier.score(part)[0]).cpu() for part in images.to(device).split(512)]
            errors = {"error": (torch.cat(parts) - truth).abs(), "bias": torch.cat(parts) - truth}
            errors |= {f"constant_{each:g}": (each - truth).abs() for each in CONSTANTS}
            found[name] = {"images": len(truth)} | {key: round(float(value.mean()), 2) for key, value in errors.items()}
            logger.info("%s %s", name, found[name])
        return found


def train(config: TrainConfig) -> Path:
    """Trains a classifier and returns its folder."""
    return Training(config).run()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(tyro.cli(TrainConfig, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
