"""Training of the embedded text-to-image prior, at toy size."""

import dataclasses
import json
import math

import pytest
import torch
from diffusers import StableDiffusionPipeline

from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.model_files import embedded_folder
from prior_training import architecture, mini_sd
from prior_training.autoencoder import build_autoencoder
from prior_training.sampling import sample_pictures
from prior_training.tokenizer import build_tokenizer
from prior_training.world.captions import vocabulary
from tests.prior_training.toy_world import render_square


@pytest.fixture(scope="module", autouse=True)
def toy_world():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("prior_training.view_buffer.render", render_square)
        yield


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return mini_sd.TrainConfig(
        out=tmp_path_factory.mktemp("mini_sd"), seconds=600, batch_size=4, num_objects=1, reserve=1, refresh_every=2,
        max_steps=3, architecture=architecture.TOY,
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(config):
    return mini_sd.train(config)


def rows_of(config):
    return [json.loads(line) for line in (config.out / "training.jsonl").read_text().splitlines()]


def test_training_from_nothing_writes_a_prior_that_loads_and_samples(config, folder):
    rows = rows_of(config)
    assert [row["step"] for row in rows if "loss" in row] == [1, 3]
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert set(rows[-1]) == {"step", "held_out_loss", "held_out_loss_other_text", "held_out_loss_wrong_view"}
    assert any("autoencoder_loss" in row for row in rows)
    prior = StableDiffusionPrior.load(folder)
    assert prior.vae.config.scaling_factor != 1.0
    pictures = sample_pictures(prior, ["a red mug", "a robot, back view"], num_steps=2)
    assert pictures.shape == (2, 3, 32, 32)
    assert torch.equal(pictures, sample_pictures(prior, ["a red mug", "a robot, back view"], num_steps=2))
    assert not torch.equal(pictures[:1], sample_pictures(prior, ["a blue ball"], num_steps=2))
    assert StableDiffusionPipeline.from_pretrained(folder, low_cpu_mem_usage=False).tokenizer is not None


def test_the_same_seed_gives_the_same_weights(config, folder, tmp_path):
    again = mini_sd.train(dataclasses.replace(config, out=tmp_path))
    state = StableDiffusionPrior.load(folder).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in StableDiffusionPrior.load(again).state_dict().items())


def test_resuming_keeps_the_autoencoder_and_the_tokenizer(config, folder, tmp_path):
    again = mini_sd.train(dataclasses.replace(config, out=tmp_path, resume=folder, max_steps=1))
    before, after = StableDiffusionPrior.load(folder), StableDiffusionPrior.load(again)
    state = after.vae.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in before.vae.state_dict().items())
    assert before.vae.config.scaling_factor == after.vae.config.scaling_factor
    assert before.tokenizer.get_vocab() == after.tokenizer.get_vocab()


def test_resuming_learns_the_words_that_are_new(config, tmp_path):
    few = architecture.build_mini_sd(config.architecture, build_tokenizer(["red", "mug"]))
    few.save(tmp_path / "few")
    training = mini_sd.TextTraining(dataclasses.replace(config, out=tmp_path, resume=tmp_path / "few"))
    rows = {}
    for name, prior in (("few", few), ("more", training.prior)):
        ids = prior.tokenizer("red mug", add_special_tokens=False)["input_ids"]
        assert len(ids) == 2
        rows[name] = prior.text_encoder.get_input_embeddings().weight[ids]
    torch.testing.assert_close(*rows.values())
    assert len(training.prior.tokenizer("teapot", add_special_tokens=False)["input_ids"]) == 1
    state = few.unet.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in training.prior.unet.state_dict().items())


def test_the_words_are_written_beside_the_weights(folder):
    words = json.loads((folder / "words.json").read_text())
    assert words == vocabulary()
    seen = json.loads((embedded_folder("mini-sd") / "words.json").read_text())
    assert all(words[kind][: len(each)] == each for kind, each in seen.items())


def test_a_given_autoencoder_is_trained_further(config, tmp_path):
    vae = build_autoencoder(config.architecture.autoencoder_channels, config.architecture.size)
    vae.save_pretrained(tmp_path / "vae")
    folder = mini_sd.train(dataclasses.replace(config, out=tmp_path, autoencoder=tmp_path / "vae", max_steps=1))
    trained, before = StableDiffusionPrior.load(folder).vae.state_dict(), vae.state_dict()
    weight = "decoder.conv_out.weight"
    assert not torch.equal(trained[weight], before[weight].half().float())
    assert (trained[weight] - before[weight]).abs().max() < 0.01  # One step at most 2e-3 / 100, and the rounding.


def test_the_text_reaches_the_loss(config):
    """The dropped prompt is the empty one, and gradients reach the text encoder."""
    training = mini_sd.TextTraining(config)
    tokens = training.prior.tokenize(["a red mug", "a blue ball"]).int()
    batch = mini_sd.TextViews(latents=torch.randn(2, 4, 8, 8), tokens=tokens)
    noisy, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
    inputs = training.inputs(batch, noisy, timesteps, torch.tensor([True, False]))
    expected = training.prior.embed(["a red mug", ""])
    torch.testing.assert_close(inputs["encoder_hidden_states"], expected)
    training.loss(batch, timesteps, noisy, torch.ones(2, dtype=torch.bool)).mean().backward()
    assert training.prior.text_encoder.get_input_embeddings().weight.grad.abs().sum() > 0


def test_the_loss_is_the_velocitys_with_the_schedules_coefficients(config):
    training = mini_sd.TextTraining(config)
    training.prior.unet.conv_out.weight.data.zero_()
    training.prior.unet.conv_out.bias.data.zero_()
    batch = mini_sd.TextViews(latents=torch.randn(2, 4, 8, 8), tokens=training.prior.tokenize(["", ""]).int())
    noise, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([100, 900])
    signal, sigma = training.prior.schedule.coefficients(timesteps, noise)
    velocity = signal * noise - sigma * batch.latents
    loss = training.loss(batch, timesteps, noise, torch.ones(2, dtype=torch.bool))
    torch.testing.assert_close(loss, velocity.square().mean((1, 2, 3)))
