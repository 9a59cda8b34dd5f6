"""`hash3d words`, and the warnings for a prompt that has none of them, or no colour."""

import json
import re
import textwrap
import warnings
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from .parsing import parse_options
from .streams import say

SEEN = Path(__file__).parents[1] / "assets" / "mini-sd" / "words.json"
LONGEST_LINE = 100


@dataclass(frozen=True)
class Words:
    """List the words that mini-sd, the embedded text prior, was trained with: prompts made of these work best."""


def main(arguments: list[str]) -> int:
    """Print the words by their kind. Returns the exit code."""
    parse_options(Words, "words", arguments)
    for kind, words in json.loads(SEEN.read_text()).items():
        say(textwrap.fill(", ".join(words), LONGEST_LINE, initial_indent=f"{kind:11}", subsequent_indent=" " * 11))
    return 0


def warn_of_strange(prompt: str, *, alone: bool = True) -> None:
    """Warn if mini-sd has seen no noun of a prompt, and name those that are spelled alike.

    Warn of a prompt without a colour too, if it is `alone`, without an image.
    """
    seen = {kind: " ".join(each).split() for kind, each in json.loads(SEEN.read_text()).items()}
    nouns, words = seen["nouns"], re.findall("[a-z]+", prompt.lower())
    if any({word, word.removesuffix("s"), word.removesuffix("es")} & {*nouns} for word in words):
        if alone and not {*words} & {*seen["colours"], *seen["patterns"], *seen["materials"]}:
            warnings.warn(
                f"The prompt {prompt!r} has no colour: mini-sd often makes such things grey and faint. Name one, as in "
                "'a red mug'; hash3d words lists them.",
                stacklevel=2,
            )
        return
    strange = [word for word in words if not any(word in each for each in seen.values())]
    near = dict.fromkeys(each for word in strange for each in get_close_matches(word, nouns, n=2, cutoff=0.7))
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    warnings.warn(
        f"mini-sd has seen no object of the prompt {prompt!r}, and may make another. {meant}hash3d words lists what it "
        "has seen; --prior takes a published model.",
        stacklevel=2,
    )
