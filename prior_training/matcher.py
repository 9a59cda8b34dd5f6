"""Trains the matcher, which judges the samples of `mini-sd`: picture to noun, colour and view.

    python -m prior_training.matcher --out FOLDER --seconds 90

It learns from the renderer's own labels alone, on views that are rendered while it runs, never on a prior's samples.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.files import write_json

from .autoencoder import to_images
from .classifier_training import ClassifierConfig, ClassifierTraining
from .evaluate_views import asymmetric
from .matcher_network import Labels, LogProbabilities, Matcher
from .matcher_views import LabelledViews, augment, sample_upright
from .text_scores import shares
from .world.catalogue import HELD_OUT

__all__ = ["Labels", "LogProbabilities", "Matcher", "TrainConfig", "matching_loss", "train"]

FIRST_HELD_OUT = HELD_OUT + 2_000_000
"""Objects from here on measure the matcher."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ClassifierConfig):
    """How the matcher is trained."""

    num_views: int = 65_536
    """Views held at a time."""
    refresh_views: int = 128
    """Views replaced at each step."""
    num_held_out: int = 8192
    """Views of as many other objects, which measure the accuracy."""


def matching_loss(found: LogProbabilities, truth: Labels) -> Float[Tensor, ""]:
    """The cross entropies of noun, colour and view, added."""
    noun, color = F.nll_loss(found.noun, truth.noun), F.nll_loss(found.color, truth.color)
    return noun + color + F.nll_loss(found.view, truth.view)


class Training(ClassifierTraining[TrainConfig, Matcher]):
    """One training run of the matcher."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__(config)
        objects = sample_upright(0, config.num_objects, self.device)
        self.views = LabelledViews(objects, config.num_views, config.size, seed=config.seed)

    def build(self) -> Matcher:
        """The untrained matcher."""
        return Matcher(self.config.widths, self.config.size)

    def loss(self) -> Tensor:
        """Of a random batch, after some views were replaced."""
        if self.config.refresh_views > 0:
            self.views.refresh(self.config.refresh_views)
        pixels, truth = self.views.sample(self.config.batch_size)
        with self.autocast():
            found = self.classifier(augment(pixels, self.noise))
        return matching_loss(found, truth)

    def finish(self) -> None:
        """Writes the matcher, and its accuracies on clean and on spoilt views of objects that it has not seen."""
        config = self.config
        self.classifier.save(config.out)
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
