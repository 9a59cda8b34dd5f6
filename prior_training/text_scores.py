"""How well pictures show what their captions say, by the log probabilities of the matcher."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .matcher_network import Labels, LogProbabilities, Matcher
from .world.words import COLORS, NOUNS


def shares(guess: Labels, truth: Labels, asymmetric: Bool[Tensor, " B"]) -> dict[str, float]:
    """Shares of pictures with the right noun, colour, view, and with all three (`exact`), from 0 to 1.

    `view_asymmetric` is over the objects that look different from the front, the side and behind: of the others one
    picture can show several views, so that no guess is better than another. It is left out if there are none.
    """
    noun, color, view = guess.noun == truth.noun, guess.color == truth.color, guess.view == truth.view
    right = {
        "exact": noun & color & view, "noun": noun, "color": color, "view": view, "view_asymmetric": view[asymmetric]
    }  # fmt: skip
    return {name: float(each.double().mean()) for name, each in right.items() if len(each) > 0}


def sample_candidates(count: int, num_candidates: int, generator: torch.Generator) -> Int[Tensor, "B K"]:
    """For each of `count` pictures its own caption's number and those of other captions, all different, shuffled.

    Shuffled, so that a matcher that cannot tell captions apart does not take the right one for being the first.
    """
    if not 1 <= num_candidates <= count:
        raise ValueError(f"Expected 1 to {count} candidates, as many as captions at most, but got {num_candidates}.")
    order = torch.rand(count, count, generator=generator).fill_diagonal_(-1.0)
    chosen = order.topk(num_candidates, largest=False).indices
    return chosen.gather(1, torch.rand(chosen.shape, generator=generator).argsort(1))


def retrieve(found: LogProbabilities, truth: Labels, candidates: Int[Tensor, "B K"]) -> Labels:
    """What the likeliest of each picture's candidate captions says.

    The score of a caption is log P(noun) + log P(colour) + log P(view); `truth` holds what caption i says.
    """
    scores = found.noun.gather(1, truth.noun[candidates]) + found.color.gather(1, truth.color[candidates])
    scores = scores + found.view.gather(1, truth.view[candidates])
    best = candidates.gather(1, scores.argmax(1, keepdim=True))[:, 0]
    return truth.map(lambda each: each[best])


def score_captions(
    found: LogProbabilities, truth: Labels, asymmetric: Bool[Tensor, " B"], candidates: Int[Tensor, "B K"]
) -> dict[str, dict[str, float]]:
    """Shares of what is right: in the retrieved caption, and in the likeliest of all nouns, colours and views."""
    return {
        "retrieval": shares(retrieve(found, truth, candidates), truth, asymmetric),
        "classification": shares(found.best(), truth, asymmetric),
    }


def chance(
    truth: Labels, asymmetric: Bool[Tensor, " B"], candidates: Int[Tensor, "B K"]
) -> dict[str, dict[str, float]]:
    """What a matcher reaches that does not look at the pictures.

    Retrieval: the mean over all candidates. Classification: the most frequent noun, colour and view for each picture.
    """
    count = candidates.shape[1]
    guess = truth.map(lambda each: each[candidates].flatten())
    repeated = truth.map(lambda each: each.repeat_interleave(count))
    common = truth.map(lambda each: each.mode().values.expand(len(truth)))
    return {
        "retrieval": shares(guess, repeated, asymmetric.repeat_interleave(count)),
        "classification": shares(common, truth, asymmetric),
    }


@dataclass(frozen=True, kw_only=True)
class ViewScores:
    """What the matcher finds in several views of one object."""

    noun: str
    """The likeliest by the mean log probability over the views, as is `color`."""
    color: str
    noun_log_probability: float
    """Mean log probability over the views of the noun that was asked for."""
    color_log_probability: float
    noun_found: bool
    """Whether the likeliest noun is the one that was asked for."""
    color_found: bool


def score_views(matcher: Matcher, pictures: Float[Tensor, "B 3 H W"], noun: str, color: str) -> ViewScores:
    """Whether views of one object ([-1, 1], of any size and angle) together show a `noun` whose body is `color`."""
    for word, words, name in ((noun, NOUNS[: matcher.counts[0]], "noun"), (color, COLORS, "color")):
        if word not in words:
            raise ValueError(f"Expected a {name} that the matcher knows ({', '.join(words)}), but got {word!r}.")
    found = matcher.judge(pictures)
    nouns, colors = found.noun.mean(0), found.color.mean(0)
    best_noun, best_color = NOUNS[int(nouns.argmax())], COLORS[int(colors.argmax())]
    return ViewScores(
        noun=best_noun,
        color=best_color,
        noun_log_probability=float(nouns[NOUNS.index(noun)]),
        color_log_probability=float(colors[COLORS.index(color)]),
        noun_found=best_noun == noun,
        color_found=best_color == color,
    )
