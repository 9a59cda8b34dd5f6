"""A toy evaluation from end to end, and what it is asked with."""

import json

import pytest
import torch
from PIL import Image

from hash3d.guidance.stable_diffusion import VIEWS, view_index
from prior_training import evaluate_text, novel_views, text_nearest
from prior_training.architecture import TOY, build_mini_sd
from prior_training.evaluate_text import PROMPTS, EvaluateConfig, Evaluation, render_held_out
from prior_training.matcher_network import Matcher
from prior_training.matcher_views import sample_upright
from prior_training.tokenizer import build_tokenizer
from prior_training.world.captions import WORDS, _plural
from prior_training.world.words import COLORS, NOUNS
from tests.prior_training.toy_world import render_square


@pytest.fixture(autouse=True)
def toy_world(monkeypatch):
    for module in (evaluate_text, novel_views, text_nearest):
        monkeypatch.setattr(module, "render", render_square)


def test_prompts_are_of_known_things_in_known_words():
    for prompt in PROMPTS:
        assert set(prompt.split()) <= set(WORDS)
        assert prompt.split()[1] in COLORS
        assert any(f" {name} " in f"{prompt} " for noun in NOUNS for name in (noun, _plural(noun)))


def test_captions_say_what_the_labels_hold(monkeypatch):
    seen = []
    monkeypatch.setattr(
        evaluate_text, "render", lambda objects, cameras: seen.append(cameras) or render_square(objects, cameras)
    )
    held_out = render_held_out(40, 16, torch.device("cpu"), seed=0)
    truth = held_out.truth
    assert truth.view.bincount().tolist() == [10] * 4
    assert torch.equal(view_index(seen[0].elevation, seen[0].azimuth), truth.view)
    for prompt, noun, color, view in zip(held_out.prompts, truth.noun, truth.color, truth.view, strict=True):
        assert NOUNS[noun] in prompt
        assert COLORS[color] in prompt
        assert prompt.endswith(f", {VIEWS[view]}")
    assert held_out.prompts == render_held_out(40, 16, torch.device("cpu"), seed=0).prompts


def test_no_object_of_training_gives_a_caption():
    first = sample_upright(0, 40, torch.device("cpu"))
    held_out = sample_upright(evaluate_text.FIRST_CAPTION, 40, torch.device("cpu"))
    assert torch.cdist(first.colors.flatten(1), held_out.colors.flatten(1)).min() > 1e-3


def test_a_toy_evaluation(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate_text, "PROMPTS", PROMPTS[:2])
    monkeypatch.setattr(evaluate_text, "asymmetric", lambda objects, size: torch.arange(len(objects)) % 4 < 2)
    torch.manual_seed(0)
    build_mini_sd(TOY, build_tokenizer()).save(tmp_path / "prior")
    Matcher((4, 4), 16).save(tmp_path / "matcher")
    config = EvaluateConfig(
        prior=tmp_path / "prior", matcher=tmp_path / "matcher", out=tmp_path / "out", num_captions=16,
        num_candidates=4, guidance_scales=(2.0, 3.0), num_steps=2, num_training_views=20, num_neighbours=2,
        batch_size=8,
    )  # fmt: skip
    found = Evaluation(config).run()
    assert found == json.loads((config.out / "evaluation.json").read_text())
    rows = {row["pictures"]: row for row in found["scores"]}
    assert list(rows) == [
        "chance", "true renders", "true renders, encoded and decoded", "guidance 2", "guidance 3"
    ]  # fmt: skip
    assert found["asymmetric"] == 8
    assert rows["chance"]["classification"]["view"] == 0.25
    assert rows["chance"]["classification"]["view_asymmetric"] == 0.5  # Front and side views alone.
    # The square tells the objects and cameras apart, so a held-out render is no training render.
    assert found["nearest"]["held_out_renders_least"] > 0
    table = (config.out / "evaluation.md").read_text()
    assert table.count("| guidance 3 |") == 2
    assert len((config.out / "held_out.txt").read_text().splitlines()) == 2
    sizes = {}
    for name, rows, columns in (("views", 2, 8), ("backgrounds", 2, 8), ("held_out", 2, 8), ("nearest", 2, 4)):
        with Image.open(config.out / f"{name}.png") as sheet:
            sizes[name] = sheet.width == columns * TOY.size and sheet.height > rows * TOY.size
    assert all(sizes.values()), sizes
