"""Trains the matcher, which judges the samples of `mini-sd`: picture to noun, colour and view.

    python -m prior_training.matcher --out FOLDER --seconds 90

It learns from the renderer's own labels alone, on views that are rendered while it runs, never on a prior's samples.
"""

import json
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.files import write_json

from .autoencoder import to_images
from .evaluate_views import asymmetric
from .matcher_network import Labels, LogProbabilities, Matcher
from .matcher_views import LabelledViews, augment, sample_upright
from .text_scores import shares
from .world.catalogue import HELD_OUT

__all__ = ["Labels", "LogProbabilities", "Matcher", "TrainConfig", "matching_loss", "train"]

logger = logging.getLogger(__name__)

FIRST_HELD_OUT = HELD_OUT + 2_000_000
"""Objects from here on measure the matcher."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the matcher is trained."""

    out: Path
    """Folder for the matcher (`config.json`, `model.safetensors`), `accuracy.json` and `training.jsonl`."""
    seconds: float = 90.0
    """Time for everything but the last measurement."""
    batch_size: int = 512
    """Views a step."""
    learning_rate: float = 2e-3
    """Peak rate of AdamW; it rises over 100 steps and falls along a cosine."""
    num_objects: int = 131_072
    """Objects to render."""
    num_views: int = 65_536
    """Views held at a time."""
    refresh_views: int = 128
    """Views replaced at each step."""
    num_held_out: int = 8192
    """Views of as many other objects, which measure the accuracy."""
    widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of the network's stages."""
    size: int = 128
    """Pixels of a side."""
    seed: int = 0
    """Seeds weights and samples."""
    max_steps: int = 10_000_000
    """Ends earlier, for tests."""


def matching_loss(found: LogProbabilities, truth: Labels) -> Float[Tensor, ""]:
    """The cross entropies of noun, colour and view, added."""
    noun, color = F.nll_loss(found.noun, truth.noun), F.nll_loss(found.color, truth.color)
    return noun + color + F.nll_loss(found.view, truth.view)


class Training:
    """One training run; `run` does it all."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.started = config, time.monotonic()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = True
        config.out.mkdir(parents=True, exist_ok=True)
        self.noise = torch.Generator(self.device).manual_seed(config.seed)
        self.matcher = Matcher(config.widths, config.size).to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    def report(self, row: dict[str, float]) -> None:
        """One line of `training.jsonl`."""
        logger.info("%s", {name: round(value, 5) for name, value in row.items()})
        with (self.config.out / "training.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")

    def run(self) -> Path:
        """Trains, measures and writes the matcher; returns its folder."""
        config = self.config
        objects = sample_upright(0, config.num_objects, self.device)
        views = LabelledViews(objects, config.num_views, config.size, seed=config.seed)
        optimizer = torch.optim.AdamW(self.matcher.parameters(), lr=config.learning_rate, weight_decay=0.02)
        begun, step, progress = self.elapsed(), 0, 0.0
        while progress < 1.0:
            rate = config.learning_rate * min(1.0, (step + 1) / 100) * (0.505 + 0.495 * math.cos(math.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = self._step(views, optimizer)
            step += 1
            if step % 10 == 0 or step >= config.max_steps:
                value = loss.item()
                share = (self.elapsed() - begun) / max(config.seconds - begun, 1e-3)
                progress = max(share, step / config.max_steps)
                if step % 100 == 0 or progress >= 1.0:
                    self.report({"step": step, "seconds": self.elapsed(), "loss": value, "rate": rate})
        self.matcher.save(config.out)
        self._measure()
        return config.out

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def _step(self, views: LabelledViews, optimizer: torch.optim.Optimizer) -> Tensor:
        """One step; returns its loss without waiting for it."""
        if self.config.refresh_views > 0:
            views.refresh(self.config.refresh_views)
        pixels, truth = views.sample(self.config.batch_size)
        pictures = augment(pixels, self.noise)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            found = self.matcher(pictures)
        loss = matching_loss(found, truth)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.matcher.parameters(), 5.0)
        optimizer.step()
        return loss.detach()

    def _measure(self) -> None:
        """Accuracies of what was written, on clean and on spoilt views of objects that it has not seen."""
        config = self.config
        matcher = Matcher.load(config.out, self.device)
        objects = sample_upright(FIRST_HELD_OUT, config.num_held_out, self.device)
        views = LabelledViews(objects, config.num_held_out, config.size, seed=config.seed + 1)
        pixels, truth = views.all()
        parts = torch.arange(config.num_held_out, device=self.device).split(1024)
        sided = torch.cat([asymmetric(objects[part], config.size) for part in parts]).to(self.device)[views.shown]
        found: dict[str, float] = {}
        for name, prepare in (("", to_images), ("spoilt_", lambda some: augment(some, self.noise))):
            groups = [matcher.judge(prepare(part)) for part in pixels.split(1024)]
            scores = shares(LogProbabilities.concatenate(groups).best(), truth, sided)
            found.update({f"{name}{key}": value for key, value in scores.items()})
        found["asymmetric_share"] = float(sided.float().mean())
        self.report({f"held_out_{name}": value for name, value in found.items()})
        write_json(config.out / "accuracy.json", {"held_out_views": len(truth), **found})


def train(config: TrainConfig) -> Path:
    """Trains a matcher and returns its folder."""
    return Training(config).run()


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    train(tyro.cli(TrainConfig, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
