"""The tokenizer of `mini-sd`: CLIP's byte-pair encoding with a vocabulary in which each word of the world is one token.

Any other text still has tokens: pieces of known words, and single bytes.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from hash3d.diffusion.stable_diffusion import load_tokenizer
from hash3d.files import write_json
from hash3d.guidance.stable_diffusion import VIEWS

from .world.captions import WHOLE
from .world.words import COLORS

END_OF_WORD = "</w>"
START, END = "<|startoftext|>", "<|endoftext|>"
MAX_LENGTH = 77


def world_words() -> list[str]:
    """Every word of letters that a training prompt can contain, but for plurals."""
    phrases = [*WHOLE, *VIEWS, *COLORS, "on a an background"]
    return sorted({word for phrase in phrases for word in re.findall("[a-z]+", phrase)})


def merges_for(words: Iterable[str]) -> list[tuple[str, str]]:
    """Merges with which byte-pair encoding makes one token of each word.

    Word by word: what the merges so far make of it is joined from the left. A later merge ranks behind all earlier
    ones, which have made one token of each earlier word before it comes into play.
    """
    ranks: dict[tuple[str, str], int] = {}
    for word in words:
        pieces = apply_merges(word, ranks)
        while len(pieces) > 1:
            ranks[pieces[0], pieces[1]] = len(ranks)
            pieces = [pieces[0] + pieces[1], *pieces[2:]]
    return list(ranks)


def apply_merges(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Byte-pair encoding (Sennrich et al. 2016): while some pair of neighbours has a rank, join the lowest."""
    pieces = [*word[:-1], word[-1] + END_OF_WORD]
    while True:
        pairs = [pair for pair in pairwise(pieces) if pair in ranks]
        if not pairs:
            return pieces
        first, second = min(pairs, key=ranks.__getitem__)
        joined: list[str] = []
        for piece in pieces:
            if joined and piece == second and joined[-1] == first:
                joined[-1] = first + second
            else:
                joined.append(piece)
        pieces = joined


def build_tokenizer(words: Iterable[str] | None = None) -> Any:
    """A CLIP tokenizer of lower-case words (the world's by default); padded with its end token, as Stable Diffusion."""
    from tokenizers.pre_tokenizers import ByteLevel

    merges = merges_for(world_words() if words is None else words)
    characters = sorted(ByteLevel.alphabet())
    singles = [*characters, *(character + END_OF_WORD for character in characters)]
    tokens = [*singles, *dict.fromkeys(first + second for first, second in merges), START, END]
    special = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    with TemporaryDirectory() as parent:
        folder = Path(parent) / "tokenizer"
        write_json(folder / "vocab.json", {token: index for index, token in enumerate(tokens)})
        lines = ["#version: 0.2", *(f"{first} {second}" for first, second in merges)]
        (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_LENGTH}
        write_json(folder / "tokenizer_config.json", {**settings, **special})
        return load_tokenizer(Path(parent))


class FastTokens:
    """Token ids of many prompts, equal to the tokenizer's.

    It encodes each stretch between spaces by itself; here each is encoded once, and remembered.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self._length = tokenizer, int(tokenizer.model_max_length)
        self._known: dict[str, list[int]] = {}

    def __call__(self, prompts: list[str]) -> Int[Tensor, "B T"]:
        """Padded ids, in 32 bits on the CPU. Raises `ValueError` if a prompt is too long."""
        start, end, pad = (getattr(self._tokenizer, f"{name}_token_id") for name in ("bos", "eos", "pad"))
        rows = [
            [start, *(index for stretch in prompt.split() for index in self.ids(stretch)), end] for prompt in prompts
        ]
        lengths = [len(row) for row in rows]
        if max(lengths) > self._length:
            longest = prompts[lengths.index(max(lengths))]
            raise ValueError(f"Expected a prompt of at most {self._length} tokens, but {longest!r} has {max(lengths)}.")
        ids = torch.full((len(rows), self._length), pad, dtype=torch.int32)
        filled = torch.arange(self._length) < torch.tensor(lengths)[:, None]
        ids[filled] = torch.tensor([index for row in rows for index in row], dtype=torch.int32)
        return ids

    def ids(self, stretch: str) -> list[int]:
        """Ids of a text without spaces, without start and end."""
        if stretch not in self._known:
            self._known[stretch] = self._tokenizer(stretch, add_special_tokens=False)["input_ids"]
        return self._known[stretch]
