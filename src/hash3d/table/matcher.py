"""Judge whether views show the object and the colour that a prompt asks for, by the shipped matcher.

It was trained on the procedural world of the embedded priors, apart from them (docs/models/mini-matcher.md).
"""

import re
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.model_files import embedded_folder
from hash3d.pictures.classifier import load_classifier


@torch.no_grad()
def judge_views(images: Float[Tensor, "B 3 H W"], prompt: str) -> dict[str, Any]:
    """Compare what several views of one object ([-1, 1]) show with the noun and the first colour in a prompt.

    Returns:
        `noun`, `color`: the likeliest by the mean log probability over the views; `noun_found`, `color_found`: whether
        they are those of the prompt. What the prompt does not name among the matcher's words is left out.
    """
    network, words = load_classifier(embedded_folder("mini-matcher"), "nouns", "colors", "views")
    found: dict[str, Any] = {}
    for name, scores in zip(("nouns", "colors"), network.score(images), strict=False):
        if asked := find_word(prompt, words[name]):
            likeliest = words[name][int(scores.mean(0).argmax())]
            found |= {name[:-1]: likeliest, f"{name[:-1]}_found": likeliest == asked}
    return found


def find_word(prompt: str, words: list[str]) -> str | None:
    """Return the word that a prompt names first, the longest of those that begin there; None if it names none."""
    found = {word: re.search(rf"\b{word}\b", prompt.lower()) for word in words}
    places = [(match.start(), -len(word), word) for word, match in found.items() if match]
    return min(places)[2] if places else None
