"""The vocabulary of the world's words."""

import itertools

import pytest
import torch

from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from prior_training.architecture import Architecture, build_mini_sd
from prior_training.tokenizer import FastTokens, apply_merges, build_tokenizer, merges_for, world_words

PROMPTS = [
    "a large red mug, front view, on an orange background",
    "A Zebra-crossing's 12th façade",
    "",
    "mugs,mug , remug",
]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


def test_every_world_word_is_one_token(tokenizer):
    words = world_words()
    assert {"mug", "turquoise", "overhead", "view", "background", "a", "on"} <= set(words)
    tokens = tokenizer.tokenize(" ".join(words))
    assert tokens == [f"{word}</w>" for word in words]


def test_words_that_contain_each_other_all_become_one_token():
    """Every word of two to four of the letters a, b and c, in an order that makes later merges tempting early."""
    words = ["".join(letters) for count in (4, 2, 3) for letters in itertools.product("abc", repeat=count)]
    ranks = {pair: rank for rank, pair in enumerate(merges_for(words))}
    assert all(apply_merges(word, ranks) == [f"{word}</w>"] for word in words)
    tokenizer = build_tokenizer(words)
    assert tokenizer.tokenize(" ".join(words)) == [f"{word}</w>" for word in words]


def test_any_other_text_comes_back(tokenizer):
    text = "a quick brown fox jumps over 12 lazy dogs"
    ids = tokenizer(text)["input_ids"]
    assert (ids[0], ids[-1]) == (tokenizer.bos_token_id, tokenizer.eos_token_id)
    assert tokenizer.decode(ids, skip_special_tokens=True).replace("1 2", "12") == text
    assert tokenizer.unk_token_id not in tokenizer("qwertz été", add_special_tokens=False)["input_ids"]


def test_it_pads_with_its_end_as_clip_does(tokenizer):
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == len(tokenizer) - 1
    assert tokenizer.model_max_length == 77


def test_fast_tokens_are_the_tokenizers(tokenizer):
    expected = tokenizer(PROMPTS, padding="max_length", max_length=77)["input_ids"]
    assert FastTokens(tokenizer)(PROMPTS).tolist() == expected
    with pytest.raises(ValueError, match="at most 77 tokens"):
        FastTokens(tokenizer)(["a " * 76])


def test_the_model_knows_the_tokenizers_end_and_fits_in_32_megabytes(tokenizer):
    with torch.device("meta"):
        prior: StableDiffusionPrior = build_mini_sd(Architecture(), tokenizer)
    assert prior.text_encoder.config.eos_token_id == tokenizer.eos_token_id
    assert prior.text_encoder.config.vocab_size == len(tokenizer)
    assert 2 * sum(parameter.numel() for parameter in prior.parameters()) < 31_850_000
