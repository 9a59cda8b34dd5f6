import dataclasses
import itertools
import json

import pytest
import torch
from PIL import Image

from hash3d.diffusion.pose import pose_numbers
from hash3d.diffusion.zero123 import Zero123Prior
from prior_training import architecture, autoencoder, mini_zero123, view_buffer
from prior_training.average import Average
from prior_training.sampling import sample_views
from prior_training.training import sample_timesteps
from tests.prior_training.toy_world import render_square


@pytest.fixture(autouse=True)
def toy_world(monkeypatch):
    monkeypatch.setattr("prior_training.view_buffer.render", render_square)


@pytest.mark.nightly
def test_toy_training_writes_a_prior_that_loads_and_samples(tmp_path):
    toy = architecture.TOY
    autoencoder.build_autoencoder(toy.autoencoder_channels, toy.size).save_pretrained(tmp_path / "vae")
    config = mini_zero123.Zero123TrainConfig(
        out=tmp_path, autoencoder=tmp_path / "vae", seconds=600, batch_size=4, num_objects=1, reserve=0,
        refresh_every=1000, max_steps=30, learning_rate=5e-2, architecture=toy,
    )  # fmt: skip
    folder = mini_zero123.train(config)
    prior = Zero123Prior.load(folder)
    rows = [json.loads(line) for line in (tmp_path / "training.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert losses[-1] < losses[0]
    again = dataclasses.replace(config, out=tmp_path / "again", resume=folder, max_steps=1)
    assert (mini_zero123.train(again) / "model_index.json").is_file()
    assert prior.pose_variant == "stable"
    assert prior.uses_patches
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    angles = torch.tensor([0.0, 90.0])
    poses = pose_numbers(
        elevation=angles, relative_azimuth=angles, relative_radius=0 * angles, reference_elevation=15.0,
        variant=prior.pose_variant,
    )  # fmt: skip
    assert sample_views(prior, images, poses, num_steps=2).shape == (2, 3, 32, 32)


def test_the_autoencoder_learns():
    torch.manual_seed(0)
    model = autoencoder.build_autoencoder((8, 8, 8), 32)
    views = torch.zeros(4, 32, 32, 4, dtype=torch.uint8)
    views[:, 8:24, 8:24] = 200
    before = float(autoencoder.autoencoder_loss(model, views).detach())
    rows = []
    autoencoder.train_autoencoder(model, itertools.repeat(views), 600, rows.append, max_steps=40)
    assert rows[-1]["autoencoder_loss"] < 0.8 * before


def test_timesteps_favour_the_middle():
    timesteps = sample_timesteps(20_000, torch.Generator().manual_seed(0))
    assert timesteps.min() >= 0
    assert timesteps.max() < 1000
    assert ((timesteps >= 400) & (timesteps < 980)).float().mean() > 0.85


def test_a_share_of_the_timesteps_has_nearly_no_signal():
    few, many = (sample_timesteps(20_000, torch.Generator().manual_seed(0), share) for share in (0.0, 0.5))
    usual = 0.7 * 130 / 580 + 0.3 * 150 / 1000
    assert (few >= 850).float().mean() == pytest.approx(usual, abs=0.01)
    assert (many >= 850).float().mean() == pytest.approx(0.5 + 0.5 * usual, abs=0.01)


def test_the_average_swaps_there_and_back():
    module = torch.nn.Linear(2, 2)
    average = Average(module)
    before = module.weight.detach().clone()
    with torch.no_grad():
        module.weight += 1
    average.swap(module)
    assert torch.equal(module.weight, before)
    average.swap(module)
    assert torch.equal(module.weight, before + 1)


def test_the_autoencoders_scaled_latents_have_unit_deviation():
    model = autoencoder.build_autoencoder((8, 8, 8), 32)
    views = torch.randint(0, 255, (4, 32, 32, 4), dtype=torch.uint8)
    autoencoder.set_scaling_factor(model, views)
    latents = model.encode(autoencoder.to_images(views)).latent_dist.mode().detach() * model.config.scaling_factor
    assert abs(float(latents.std()) - 1) < 1e-3


def test_the_autoencoder_is_trained_on_both_kinds_of_ground():
    views = next(view_buffer.random_views(400, 8, 0, torch.device("cpu"), num_objects=1, colored_backgrounds=0.5))
    white = (views[:, 0, 0, :3] == 255).all(-1)
    assert abs(float(white.float().mean()) - 0.5) < 0.1
    assert len(views[~white][:, 0, 0, :3].unique(dim=0)) > 100


def test_pairs_are_two_views_of_one_object():
    """With the bytes' mean colour as latents: red is the azimuth / 1.5, green the elevation + 90, blue the object."""

    def middle(views):
        return views[:, 4, 4].float()[..., None, None]

    views = view_buffer.ViewBuffer(num_objects=3, views=8, size=8, encode=middle, device=torch.device("cpu"), seed=0)
    views.fill()
    pairs = views.sample(300)
    first, second = pairs.condition_latents.flatten(1), pairs.latents.flatten(1)
    assert torch.equal(pairs.condition[:, 4, 4].float(), first)
    assert torch.equal(first[:, 2], second[:, 2]), "one object"
    assert len(first[:, 2].unique()) == 3
    assert not torch.equal(first, second)
    turned = (second[:, 0] - first[:, 0]) * 1.5 - pairs.relative_azimuth
    assert turned.abs().max() <= 1.5 + 1e-3, "two roundings of 0.75 degrees"
    assert (second[:, 1] - 90 - pairs.elevation).abs().max() <= 0.5 + 1e-3
    assert (first[:, 1] - 90 - pairs.reference_elevation).abs().max() <= 0.5 + 1e-3
    assert pairs.reference_elevation.min() >= -20
    assert pairs.reference_elevation.max() <= 80


def test_three_in_four_conditions_show_the_front():
    """With the azimuth of what is seen as latents: red times 1.5."""

    def red(views):
        return views[:, 4, 4, :1].float()[..., None, None]

    views = view_buffer.ViewBuffer(num_objects=64, views=8, size=8, encode=red, device=torch.device("cpu"), seed=0)
    views.fill()
    pairs = views.sample(2000)
    condition, target = (1.5 * each.flatten() for each in (pairs.condition_latents, pairs.latents))
    # Of the condition: 3/4, and of the rest 3 in 8 and a third of the other 5 in 8. Of the target: 2 in 7 if the
    # condition is one of the three, else 3 in 7; and a third of the others.
    front = [(((azimuth + 180) % 360 - 180).abs() < 61).float().mean() for azimuth in (condition, target)]
    assert abs(float(front[0]) - 0.896) < 0.03
    assert abs(float(front[1]) - 0.54) < 0.05


def test_kept_views_make_their_share_of_the_pairs():
    """With the blue of a pixel as latents: the toy world has no 255 in blue."""

    def blue(views):
        return views[:, 4, 4, 2:3].float()[..., None, None]

    views = view_buffer.ViewBuffer(num_objects=2, views=8, size=8, encode=blue, device=torch.device("cpu"), seed=0)
    views.fill()
    angles = torch.arange(24.0).reshape(3, 8)
    views.keep(torch.full((3, 8, 8, 8, 4), 255, dtype=torch.uint8), angles, 10 * angles, share=0.3)
    views.refresh(2)
    with pytest.raises(ValueError, match="once"):
        views.keep(torch.zeros(3, 8, 8, 8, 4, dtype=torch.uint8), angles, angles, share=0.3)
    pairs = views.sample(2000)
    kept = pairs.latents.flatten() == 255
    assert float(kept.float().mean()) == pytest.approx(0.3, abs=0.04)
    assert (pairs.condition_latents.flatten()[kept] == 255).all(), "one object"
    turned = 10 * (pairs.elevation - pairs.reference_elevation)
    torch.testing.assert_close(pairs.relative_azimuth[kept], turned[kept])
    assert len(pairs.elevation[kept].unique()) == 24


def test_meshes_are_added_to_what_is_learned_from(tmp_path):
    """Objects 1 to 10 have a row of views each; the tenth is held out."""
    names = [f"lib-{number:03}-0.webp" for number in range(1, 11)]
    for name in names:
        Image.new("RGB", (8 * 32, 32), "white").save(tmp_path / name)
    angles = {"elevation": [0.0] * 8, "azimuth": [0.0] * 8}
    (tmp_path / "angles.json").write_text(json.dumps(dict.fromkeys(names, angles)))
    config = mini_zero123.Zero123TrainConfig(
        out=tmp_path, meshes=tmp_path, mesh_share=0.4, num_objects=1, reserve=0, architecture=architecture.TOY
    )
    training = mini_zero123.Zero123Training(config)
    buffer = training._filled_buffer(1, 0, 0)
    training.extend(buffer)
    assert (buffer.num_kept, buffer.share) == (9, 0.4)
    assert (buffer.sample(200).condition[..., 3] == 0).all((1, 2)).float().mean() == pytest.approx(0.4, abs=0.12)


def test_a_step_takes_the_gradients_of_the_mean_loss(tmp_path):
    """As a function of tensors alone, which a GPU replays; parameters without a part in the loss have none."""
    toy = architecture.TOY
    config = mini_zero123.Zero123TrainConfig(out=tmp_path, batch_size=3, num_objects=1, reserve=0, architecture=toy)
    training = mini_zero123.Zero123Training(config)
    batch = training._filled_buffer(1, 0, 0).sample(3)
    timesteps, noise, keep = torch.tensor([10, 500, 900]), torch.randn(batch.latents.shape), torch.ones(3) > 0
    training._parameters = [*training.prior.unet.parameters(), *training.prior.image_encoder.parameters()]
    loss, *found = training._gradients(type(batch), vars(batch), timesteps, noise, keep)
    expected = training.loss(batch, timesteps, noise, keep).mean()
    expected.backward()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(found, [each.grad for each in training._parameters])
