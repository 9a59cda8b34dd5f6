"""A buffer of views with prompts: what `mini-sd` learns from."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.guidance.stable_diffusion import BACK, FRONT, OVERHEAD, SIDE, VIEWS, view_index, view_prompt

from .backgrounds import WHITE, BackgroundColors, over_background, sample_background_names
from .tokenizer import FastTokens
from .view_buffer import Batch, ViewStream
from .world.captions import Description, caption, describe
from .world.words import COLORS

ELEVATION = (-10.0, 75.0)
OVERHEAD_SHARE, OVERHEAD_FROM = 0.2, 60.0
"""This share of the views lies above this many degrees, the rest below."""
VIEW_WORDS = 0.85
"""Share of the prompts that name the view."""
WHITE_BACKGROUNDS = 0.75
WORDINGS = 2
"""Prompts of each view."""


@dataclass(frozen=True, kw_only=True)
class TextViews(Batch):
    """B views with their prompts."""

    tokens: Int[Tensor, "B T"]


def sample_elevation(shape: tuple[int, ...], generator: torch.Generator) -> Float[Tensor, "..."]:
    """Elevations in degrees: a fifth seen from overhead."""
    low, high = torch.full(shape, ELEVATION[0]), torch.full(shape, OVERHEAD_FROM)
    above = torch.rand(shape, generator=generator) < OVERHEAD_SHARE
    low[above], high[above] = OVERHEAD_FROM, ELEVATION[1]
    return low + (high - low) * torch.rand(shape, generator=generator)


def write_prompt(description: Description, view: int, background: int, rng: random.Random) -> str:
    """A caption, mostly the view's words, and the background's if it is not white."""
    prompt = caption(description, rng)
    if rng.random() < VIEW_WORDS:
        prompt = view_prompt(prompt, view)
    return prompt if background == WHITE else background_prompt(prompt, COLORS[background])


class TextBuffer(ViewStream[TextViews]):
    """Latents of upright objects' views on plain backgrounds, and token ids of two prompts for each."""

    posed = False

    def __init__(self, *, tokenizer: Any, seed: int, device: torch.device, **sizes: Any) -> None:
        super().__init__(seed=seed, device=device, **sizes)
        self._tokens, self._random = FastTokens(tokenizer), random.Random(seed)
        self._colors = BackgroundColors()
        # Kept on the host, so that a refresh reads the facts without a wait for the device.
        self._facts = self._table.to("cpu")

    def make(self, indices: Int[Tensor, " N"]) -> dict[str, Tensor]:
        """Latents and tokens; the prompts come first, while the device still works."""
        shape = (len(indices), self.views)
        elevation = sample_elevation(shape, self._generator)
        azimuth = 360 * torch.rand(shape, generator=self._generator)
        backgrounds = sample_background_names(len(indices) * self.views, WHITE_BACKGROUNDS, self._generator)
        views = view_index(elevation.flatten(), azimuth.flatten())
        prompts = [
            write_prompt(description, view, background, self._random)
            for description, view, background in zip(
                [each for each in describe(self._facts[indices]) for _ in range(self.views)],
                views.tolist(),
                backgrounds.tolist(),
                strict=True,
            )
            for _ in range(WORDINGS)
        ]
        tokens = self._tokens(prompts).view(*shape, WORDINGS, -1)
        colors = self._colors.sample(backgrounds, self._generator)
        return {
            "latents": self.encode(over_background(self.see(indices, elevation, azimuth), colors)),
            "tokens": tokens,
        }

    def sample(self, count: int) -> TextViews:
        """Random views, each with one of its prompts."""
        which, view = self.random_integers(self.num_objects, count), self.random_integers(self.views, count)
        wording = self.random_integers(WORDINGS, count)
        return TextViews(
            latents=self._tensors["latents"][which, view], tokens=self._tensors["tokens"][which, view, wording]
        )


def view_word_swap(tokenizer: Any) -> Callable[[Tensor], Tensor]:
    """A function of token ids that names a wrong view: front and back change indices, so do side and overhead.

    It holds for a tokenizer in which each of these words is one token.
    """
    ids = [tokenizer(view, add_special_tokens=False)["input_ids"] for view in VIEWS]
    assert all(len(each) == 2 for each in ids)
    swap = torch.arange(len(tokenizer), dtype=torch.int32)
    for one, other in ((FRONT, BACK), (SIDE, OVERHEAD)):
        swap[ids[one][0]], swap[ids[other][0]] = ids[other][0], ids[one][0]
    word = ids[FRONT][1]

    def swapped(tokens: Int[Tensor, "B T"]) -> Int[Tensor, "B T"]:
        before_view = tokens.roll(-1, dims=1) == word
        return torch.where(before_view, swap.to(tokens.device)[tokens.long()], tokens)

    return swapped


def background_prompt(prompt: str, color: str) -> str:
    """The prompt, with the words for a plain background of a colour; a prompt that names none means a white one."""
    article = "an" if color[0] in "aeiou" else "a"
    return f"{prompt}, on {article} {color} background"
