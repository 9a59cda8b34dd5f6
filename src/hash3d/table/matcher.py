"""Judge whether views show the object and the colour that a prompt asks for, by the shipped matcher.

It was trained on the procedural world of the embedded priors, apart from them (docs/models/mini-matcher.md).
"""

import functools
import re
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor, nn

from hash3d.diffusion.loading import embedded_folder
from hash3d.model_files import read_configuration


class Residual(nn.Module):
    """x + f(x), with two 3x3 convolutions in f (He et al. 2016); the shortcut is 1x1 where the shape changes."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out), nn.BatchNorm2d(out)])
        same = width == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """One block."""
        hidden = F.relu(self.norms[0](self.first(features)))
        return F.relu(self.norms[1](self.second(hidden)) + self.shortcut(features))


class MatcherNetwork(nn.Module):
    """Images [B, 3, S, S] in [-1, 1] to log probabilities of several attributes.

    Args:
        widths: channels of the stages; each has two blocks and halves the side. The first stage sees half the side.
        size: pixels a side to which images are resized.
        counts: values of each attribute.
    """

    def __init__(self, widths: tuple[int, ...], size: int, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.widths, self.size, self.counts = widths, size, counts
        self.stem = nn.Conv2d(3, widths[0], 3, 2, padding=1)
        blocks = []
        for stage, (width, out) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            blocks += [Residual(width, out, 1 if stage == 0 else 2), Residual(out, out, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], sum(counts))

    def score(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B N"]]:
        """Log probabilities of each attribute of images of any size."""
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        features = self.blocks(F.relu(self.stem(images))).mean((2, 3))
        return [scores.log_softmax(1) for scores in self.head(features).float().split(self.counts, dim=1)]


@torch.no_grad()
def judge_views(images: Float[Tensor, "B 3 H W"], prompt: str) -> dict[str, Any]:
    """Compare what several views of one object ([-1, 1]) show with the noun and the first colour in a prompt.

    Returns:
        `noun`, `color`: the likeliest by the mean log probability over the views; `noun_found`, `color_found`: whether
        they are those of the prompt. What the prompt does not name among the matcher's words is left out.
    """
    network, words = _load(embedded_folder("mini-matcher"))
    found: dict[str, Any] = {}
    for name, scores in zip(("nouns", "colors"), network.score(images.to(network.stem.weight)), strict=False):
        if asked := find_word(prompt, words[name]):
            likeliest = words[name][int(scores.mean(0).argmax())]
            found |= {name[:-1]: likeliest, f"{name[:-1]}_found": likeliest == asked}
    return found


def find_word(prompt: str, words: list[str]) -> str | None:
    """Return the word that a prompt names first, the longest of those that begin there; None if it names none."""
    found = {word: re.search(rf"\b{word}\b", prompt.lower()) for word in words}
    places = [(match.start(), -len(word), word) for word, match in found.items() if match]
    return min(places)[2] if places else None


@functools.cache
def _load(folder: Path) -> tuple[MatcherNetwork, dict[str, Any]]:
    config = read_configuration(folder / "config.json")
    counts = tuple(len(config[name]) for name in ("nouns", "colors", "views"))
    network = MatcherNetwork(tuple(config["widths"]), config["size"], counts)
    network.load_state_dict(load_file(folder / "model.safetensors"))
    return network.float().eval(), config
