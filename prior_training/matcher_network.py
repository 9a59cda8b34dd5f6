"""The matcher: a small classifier of pictures, trained apart from any prior, which judges a prior's samples."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from hash3d.guidance.stable_diffusion import VIEWS
from hash3d.model_files import read_configuration
from hash3d.pictures.classifier import ImageClassifier

from .world.words import COLORS, NOUNS

VOCABULARY = {"nouns": list(NOUNS), "colors": list(COLORS), "views": list(VIEWS)}
"""What the matcher tells apart, in the order of its outputs."""


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What B pictures show."""

    noun: Int[Tensor, " B"]
    color: Int[Tensor, " B"]
    view: Int[Tensor, " B"]

    def __len__(self) -> int:
        return self.noun.shape[0]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Labels":
        """The same function of each attribute."""
        return Labels(noun=function(self.noun), color=function(self.color), view=function(self.view))


@dataclass(frozen=True, kw_only=True)
class LogProbabilities:
    """What the matcher thinks that B pictures show; each row sums to one after exp."""

    noun: Float[Tensor, "B N"]
    color: Float[Tensor, "B C"]
    view: Float[Tensor, "B V"]

    def best(self) -> Labels:
        """The likeliest of each attribute."""
        return Labels(noun=self.noun.argmax(1), color=self.color.argmax(1), view=self.view.argmax(1))

    @staticmethod
    def concatenate(groups: list["LogProbabilities"]) -> "LogProbabilities":
        """All pictures of several groups."""
        return LogProbabilities(
            noun=torch.cat([group.noun for group in groups]),
            color=torch.cat([group.color for group in groups]),
            view=torch.cat([group.view for group in groups]),
        )


class Matcher(ImageClassifier):
    """Pictures [B, 3, S, S] in [-1, 1] to log probabilities of noun, colour and view.

    `widths`: channels of the stages; each has two blocks and halves the side. The first stage sees half the side.
    `num_nouns`: it knows the first of NOUNS.
    """

    def __init__(
        self, widths: tuple[int, ...] = (32, 64, 96, 128), size: int = 128, num_nouns: int = len(NOUNS)
    ) -> None:
        super().__init__(widths, size, (num_nouns, len(COLORS), len(VIEWS)))

    def forward(self, pictures: Float[Tensor, "B 3 H W"]) -> LogProbabilities:
        """One pass over pictures of any size."""
        noun, color, view = self.score(pictures)
        return LogProbabilities(noun=noun, color=color, view=view)

    @torch.no_grad()
    def judge(self, pictures: Float[Tensor, "B 3 H W"], chunk: int = 250) -> LogProbabilities:
        """Log probabilities of many pictures, in parts, on the matcher's device; puts the matcher in eval mode."""
        self.eval()
        return LogProbabilities.concatenate([self(part) for part in pictures.split(chunk)])

    def labels(self, pictures: Float[Tensor, "B 3 H W"]) -> Labels:
        """The likeliest noun, colour and view of each picture."""
        return self.judge(pictures).best()

    def save(self, folder: Path) -> None:
        """Writes `config.json` and `model.safetensors`, the latter in half precision."""
        self.write(folder, VOCABULARY | {"nouns": list(NOUNS[: self.counts[0]])})

    @classmethod
    def load(cls, folder: Path, device: torch.device | str = "cpu") -> "Matcher":
        """Reads a folder; the weights are used in single precision.

        An older one knows the first nouns only. Raises `ValueError` if it holds no matcher, or one of other words.
        """
        config = read_configuration(folder / "config.json")
        nouns = config.get("nouns") or [""]
        for name, words in VOCABULARY.items():
            if config.get(name) != (words[: len(nouns)] if name == "nouns" else words):
                raise ValueError(
                    f"Expected the matcher {folder} to know this version's {name}, but its own differ. Train it anew: "
                    f"python -m prior_training.matcher."
                )
        matcher = cls(tuple(config["widths"]), config["size"], len(nouns))
        try:
            matcher.load_state_dict(load_file(folder / "model.safetensors"))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise ValueError(
                f"Expected {folder}/model.safetensors to hold the matcher's weights, but it does not: {error}"
            ) from error
        return matcher.to(device).eval().requires_grad_(False)
