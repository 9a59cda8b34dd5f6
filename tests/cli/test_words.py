"""`hash3d words`, and prompts of other words."""

import json
import warnings

import pytest

from hash3d.cli.generate import build_recipe
from hash3d.cli.options import parse
from hash3d.cli.words import SEEN, warn_of_strange
from hash3d.diffusion.stable_diffusion import load_tokenizer


def test_the_words_are_those_of_the_training(hash3d):
    words = json.loads(SEEN.read_text())
    tokenizer = load_tokenizer(SEEN.parent)
    for each in " ".join(word for kind in words.values() for word in kind).split():
        assert len(tokenizer(each, add_special_tokens=False)["input_ids"]) == 1, each
    code, out, _ = hash3d("words")
    assert code == 0
    assert out.count(",") == sum(len(each) - 1 for each in words.values())
    assert out.startswith("nouns      mug, cup, bottle, spray bottle,")


@pytest.mark.parametrize(
    "prompt", ["a red mug", "Two wooden Boxes, on a table", "a striped teddy", "a Pink ice-cream cone"]
)
def test_a_prompt_of_its_words_is_taken(prompt):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_strange(prompt)


def test_a_prompt_without_a_colour_is_told_where_no_image_has_one():
    with pytest.warns(
        UserWarning, match=r"'Two Boxes, on a table' has no colour: mini-sd often .* 'a red mug'; hash3d"
    ):
        warn_of_strange("Two Boxes, on a table")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_strange("Two Boxes, on a table", alone=False)


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        (
            "a red airplane",
            r"no object of the prompt 'a red airplane'.* Did you mean aeroplane or fireplace\? hash3d words",
        ),
        ("a donut", r"Did you mean doughnut\?"),
        ("a samurai", r"and may make another\. hash3d words lists"),
    ],
)
def test_another_prompt_is_answered_with_near_nouns(prompt, told):
    with pytest.warns(UserWarning, match=told):
        warn_of_strange(prompt)


@pytest.mark.parametrize(
    ("words", "warned"),
    [
        (["sds_gs"], True),
        (["magic123", "--image", "picture.png"], True),
        (["sds_gs", "--prior", "a/model", "--scale", "mini"], False),
        (["magic123", "--image", "picture.png", "--text-prior", "a/model", "--scale", "mini"], False),
    ],
)
def test_only_the_embedded_prior_s_prompts_are_looked_at(words, warned):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        build_recipe(parse([*words, "--prompt", "a samurai"]))
    assert any("a samurai" in str(each.message) for each in found) is warned
