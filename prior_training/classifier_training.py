"""The training that the small classifiers share, each on one device for a given time."""

import json
import logging
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.pictures.classifier import ImageClassifier

from .train_config import rate_at

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClassifierConfig:
    """How a classifier is trained."""

    out: Path
    """Folder for the classifier (`config.json`, `model.safetensors`), `accuracy.json` and `training.jsonl`."""
    seconds: float = 90.0
    """Time for everything but the last measurement."""
    batch_size: int = 512
    """Views a step."""
    learning_rate: float = 2e-3
    """Peak rate of AdamW; it rises over 100 steps and falls along a cosine."""
    num_objects: int = 131_072
    """Objects to render."""
    widths: tuple[int, ...] = (32, 64, 96, 128)
    """Channels of the network's stages."""
    size: int = 128
    """Pixels of a side."""
    seed: int = 0
    """Seeds weights and samples."""
    max_steps: int = 10_000_000
    """Ends earlier, for tests."""


ConfigT = TypeVar("ConfigT", bound=ClassifierConfig)
ClassifierT = TypeVar("ClassifierT", bound=ImageClassifier)


class ClassifierTraining(ABC, Generic[ConfigT, ClassifierT]):
    """One training run; `run` does it all."""

    def __init__(self, config: ConfigT) -> None:
        self.config, self.started = config, time.monotonic()
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.manual_seed(config.seed)
        torch.backends.cudnn.benchmark = True
        config.out.mkdir(parents=True, exist_ok=True)
        self.noise = torch.Generator(self.device).manual_seed(config.seed)
        self.classifier: ClassifierT = self.build().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]

    @abstractmethod
    def build(self) -> ClassifierT:
        """The untrained classifier."""

    @abstractmethod
    def loss(self) -> Float[Tensor, ""]:
        """Of the next batch."""

    @abstractmethod
    def finish(self) -> None:
        """Writes the classifier, and measures it."""

    def report(self, row: dict[str, float]) -> None:
        """One line of `training.jsonl`."""
        logger.info("%s", {name: round(value, 5) for name, value in row.items()})
        with (self.config.out / "training.jsonl").open("a") as lines:
            lines.write(json.dumps(row) + "\n")

    def run(self) -> Path:
        """Trains, writes and measures the classifier; returns its folder."""
        config = self.config
        optimizer = torch.optim.AdamW(self.classifier.parameters(), lr=config.learning_rate, weight_decay=0.02)
        begun, step, progress = self.elapsed(), 0, 0.0
        while progress < 1.0:
            rate = rate_at(config.learning_rate, step, 100, progress)
            for group in optimizer.param_groups:
                group["lr"] = rate
            loss = self.loss()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.classifier.parameters(), 5.0)
            optimizer.step()
            step += 1
            if step % 10 == 0 or step >= config.max_steps:
                value = loss.item()
                share = (self.elapsed() - begun) / max(config.seconds - begun, 1e-3)
                progress = max(share, step / config.max_steps)
                if step % 100 == 0 or progress >= 1.0:
                    self.report({"step": step, "seconds": self.elapsed(), "loss": value, "rate": rate})
        self.finish()
        return config.out

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def autocast(self) -> torch.autocast:
        """Half precision on a GPU."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")
