"""Views with prompts: backgrounds, words and tokens."""

import random

import pytest
import torch

from hash3d.guidance.stable_diffusion import VIEWS
from prior_training.backgrounds import WHITE, BackgroundColors, over_background, sample_background_names
from prior_training.text_buffer import TextBuffer, background_prompt, sample_elevation, view_word_swap, write_prompt
from prior_training.tokenizer import build_tokenizer
from prior_training.world.captions import Description
from prior_training.world.words import COLORS, color_names
from tests.prior_training.toy_world import render_square


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_grounds_replace_the_white():
    """A pixel of colour c and coverage a on white is a c + (1 - a); on background g it is a c + (1 - a) g."""
    color, background = torch.tensor([0.2, 0.4, 0.8]), torch.tensor([[1.0, 0.0, 0.5]])
    coverage = torch.tensor([0.0, 0.25, 1.0])[:, None]
    views = torch.cat([coverage * color + 1 - coverage, coverage], dim=-1).mul(255).round().to(torch.uint8)
    expected = torch.cat([coverage * color + (1 - coverage) * background, coverage], dim=-1) * 255
    got = over_background(views[None, None], background)[0, 0].float()
    assert (got - expected).abs().max() <= 1.5  # Two roundings.
    assert torch.equal(over_background(views[None, None], torch.ones(1, 3)), views[None, None])


def test_ground_colors_bear_their_names():
    names = torch.arange(len(COLORS)).repeat(50)
    generator = torch.Generator().manual_seed(0)
    colors = BackgroundColors()
    assert torch.equal(color_names(colors.sample(names, generator)), names)
    assert torch.equal(colors.sample(torch.tensor([WHITE]), generator), torch.ones(1, 3))
    drawn = sample_background_names(20_000, 0.75, generator)
    assert abs(float((drawn == WHITE).float().mean()) - 0.75) < 0.02
    assert set(drawn.tolist()) == {WHITE, *range(len(COLORS))}


def test_a_fifth_of_the_views_are_from_overhead():
    elevation = sample_elevation((20_000,), torch.Generator().manual_seed(0))
    assert abs(float((elevation > 60).float().mean()) - 0.2) < 0.02
    assert elevation.min() >= -10
    assert elevation.max() <= 75


def test_prompts_name_the_view_mostly_and_the_ground_unless_white():
    mug, rng = Description(noun="mug", color="red"), random.Random(0)
    prompts = [write_prompt(mug, 2, WHITE, rng) for _ in range(1000)]
    assert abs(sum(prompt.endswith(", back view") for prompt in prompts) / 1000 - 0.85) < 0.05
    assert not any("background" in prompt for prompt in prompts)
    blue = write_prompt(mug, 0, COLORS.index("blue"), rng)
    assert blue.endswith(", on a blue background")


def test_the_swap_changes_view_words_only(tokenizer):
    def tokens(prompt):
        return torch.tensor(tokenizer([prompt], padding="max_length", max_length=77)["input_ids"])

    swapped = view_word_swap(tokenizer)
    for one, other in ((0, 2), (1, 3)):
        there, back = (tokens(f"a chair with a red back, {VIEWS[view]}, on a blue background") for view in (one, other))
        assert torch.equal(swapped(there), back)
        assert torch.equal(swapped(back), there)
    plain = tokens("a red mug in front of a ball")
    assert torch.equal(swapped(plain), plain)


def test_the_pool_pairs_views_with_their_own_prompts(tokenizer, monkeypatch):
    """With the mean colour as latents: a sample's white background and its prompt's words agree."""

    monkeypatch.setattr("prior_training.view_buffer.render", render_square)

    def corner(views):
        return views[:, 0, 0].float()[..., None, None] / 255

    def build():
        buffer = TextBuffer(
            tokenizer=tokenizer, num_objects=2, views=8, size=8, encode=corner, device=torch.device("cpu"), seed=3
        )
        buffer.fill()
        return buffer.sample(200)

    batch, again = build(), build()
    assert torch.equal(batch.tokens, again.tokens)
    assert torch.equal(batch.latents, again.latents)
    prompts = tokenizer.batch_decode(batch.tokens, skip_special_tokens=True)
    assert len(set(prompts)) > 16
    for color, prompt in zip(batch.latents.flatten(1)[:, :3], prompts, strict=True):
        words = prompt.replace(" ,", ",").split(" background")[0].split()
        if "background" in prompt:
            assert COLORS[int(color_names(color))] == words[-1]
        else:
            assert torch.equal(color, torch.ones(3))
    assert any("background" in prompt for prompt in prompts)


def test_a_prompt_names_its_background():
    assert background_prompt("a mug, side view", "blue") == "a mug, side view, on a blue background"
    assert background_prompt("a mug", "orange") == "a mug, on an orange background"
