"""The shipped matcher, as its training has it."""

from pathlib import Path

import pytest
import torch

from hash3d.model_files import embedded_folder
from hash3d.table.matcher import find_word, judge_views
from prior_training.matcher_network import Matcher
from prior_training.text_scores import score_views


@pytest.mark.parametrize(
    ("prompt", "word"),
    [("a red mug with a blue handle", "red"), ("a Blue-green car", "blue"), ("a reddish mug", None), ("", None)],
)
def test_the_first_word_counts(prompt, word):
    assert find_word(prompt, ["blue", "red", "green"]) == word


def test_the_longer_of_two_words_at_one_place_counts():
    assert find_word("a yellow teddy bear", ["bear", "teddy", "teddy bear"]) == "teddy bear"


def test_views_are_judged_as_in_training():
    images = torch.rand(3, 3, 128, 128, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    expected = score_views(Matcher.load(embedded_folder("mini-matcher")), images, "mug", "red")
    found = judge_views(images, "a red mug with a blue handle")
    assert (found["noun"], found["color"]) == (expected.noun, expected.color)
    assert (found["noun_found"], found["color_found"]) == (expected.noun_found, expected.color_found)
    assert judge_views(images, f"a {expected.color} {expected.noun}")["noun_found"]
    assert judge_views(images, "nothing that it knows") == {}


def test_the_benchmark_s_prompts_name_what_is_asked_for():
    words = Matcher.load(embedded_folder("mini-matcher"))
    assert words.counts[0] > 10
    from prior_training.world.words import COLORS, NOUNS

    for prompt in Path("research/prompts.txt").read_text().splitlines():
        _, color, noun = prompt.split(" with ")[0].split(" ", 2)
        assert (find_word(prompt, list(NOUNS)), find_word(prompt, list(COLORS))) == (noun, color)
