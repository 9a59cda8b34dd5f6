"""The conventions of Zero123, and its folder."""

import json

import pytest
import torch

from hash3d.diffusion.pose import pose_features
from hash3d.diffusion.zero123 import Zero123Prior
from tests.diffusion.test_pose import poses
from tests.tiny_models import tiny_zero123

LAYOUTS = {"patches": True, "pooled": False}


def reference(count=1, seed=0):
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def predict(prior, count=2):
    generator = torch.Generator().manual_seed(5)
    noisy = torch.randn(count, 4, 8, 8, generator=generator)
    inputs = prior.make_guided_inputs(
        noisy, torch.full((count,), 300), prior.condition(reference()).expand(count), poses(prior.pose_variant)
    )
    with torch.no_grad():
        return prior.unet(**inputs).sample, inputs, noisy


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_image_latents_are_the_unscaled_mode(layout):
    prior = tiny_zero123(patches=LAYOUTS[layout])
    assert prior.vae.config.scaling_factor == 0.5
    with torch.no_grad():
        condition = prior.condition(reference())
        mode = prior.vae.encode(reference()).latent_dist.mode()
        assert torch.equal(condition.latents, mode)
        assert torch.equal(prior.encode(reference()), mode * 0.5), "latents to add noise to are scaled"
        again = [prior.encode(reference(), torch.ones_like(mode)) for _ in range(2)]
    assert torch.equal(*again)
    assert not torch.equal(again[0], mode * 0.5)
    assert condition.embeddings.shape == ((1, 4, 16) if LAYOUTS[layout] else (1, 1, 8))


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_rows_of_the_guidance_pair(layout):
    prior = tiny_zero123(patches=LAYOUTS[layout])
    _, inputs, noisy = predict(prior)
    sample, tokens = inputs["sample"], inputs["encoder_hidden_states"]
    assert torch.equal(sample[:, :4], torch.cat([noisy, noisy]))
    assert torch.equal(sample[:2, 4:], prior.condition(reference()).latents.expand(2, -1, -1, -1))
    assert not sample[2:, 4:].any()
    assert not tokens[2:].any()
    assert tokens[:2].abs().sum() > 0
    if LAYOUTS[layout]:
        torch.testing.assert_close(inputs["class_labels"][:2], pose_features(poses()))
        assert not inputs["class_labels"][2:].any()
    else:
        assert "class_labels" not in inputs


def test_tokens_are_the_linear_map_of_embedding_and_pose():
    prior = tiny_zero123(patches=False, pose_variant="xl")
    with torch.no_grad():
        embedding = prior.condition(reference()).embeddings
        _, inputs, _ = predict(prior)
        appended = torch.cat([embedding[0, 0], poses("xl")[0]])
        expected = prior.camera_projection.proj.weight @ appended + prior.camera_projection.proj.bias
    torch.testing.assert_close(inputs["encoder_hidden_states"][0, 0], expected)


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_save_and_load_bit_for_bit(layout, tmp_path):
    prior = tiny_zero123(patches=LAYOUTS[layout], pose_variant="stable")
    prior.save(tmp_path / "stable-tiny")
    loaded = Zero123Prior.load(tmp_path / "stable-tiny")
    assert loaded.pose_variant == prior.pose_variant
    assert loaded.schedule.prediction_type == prior.schedule.prediction_type
    assert torch.equal(loaded.schedule.alphas_cumprod, prior.schedule.alphas_cumprod)
    assert (loaded.pixel_mean, loaded.pixel_std) == (prior.pixel_mean, prior.pixel_std)
    state = prior.state_dict()
    assert set(loaded.state_dict()) == set(state)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert torch.equal(predict(loaded)[0], predict(prior)[0])
    assert not any(parameter.requires_grad for parameter in loaded.parameters())


@pytest.mark.parametrize("variant", ["stable", "xl"])
def test_the_published_layout(variant, tmp_path):
    """Its camera projection says nothing of tokens or variants: pooled, and the hub's name tells."""
    tiny_zero123(patches=False).save(tmp_path)
    path = tmp_path / "clip_camera_projection" / "config.json"
    config = json.loads(path.read_text())
    published = {name: config[name] for name in ("_class_name", "additional_embeddings", "embedding_dim", "output_dim")}
    path.write_text(json.dumps(published))
    name = {"stable": "ashawkey/stable-zero123-diffusers", "xl": "ashawkey/zero123-xl-diffusers"}[variant]
    prior = Zero123Prior.load(tmp_path, name=name)
    assert (prior.pose_variant, prior.pose_reason) == (variant, f"by the hub name, {name}")
    assert not prior.uses_patches
    prior = Zero123Prior.load(tmp_path, name=name, pose_variant="xl")
    assert (prior.pose_variant, prior.pose_reason) == ("xl", "stated by the option")


def test_a_saved_folder_states_its_convention(tmp_path):
    for variant in ("stable", "xl"):
        tiny_zero123(patches=False, pose_variant=variant).save(tmp_path / "stable-zero123")
        assert Zero123Prior.load(tmp_path / "stable-zero123").pose_variant == variant


def test_half_precision(tmp_path):
    tiny_zero123().save(tmp_path)
    prior = Zero123Prior.load(tmp_path, dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in prior.parameters()} == {torch.bfloat16}
    assert prior.condition(reference()).latents.dtype == torch.bfloat16


def test_parts_that_do_not_fit_are_refused():
    prior, narrow, grey = tiny_zero123(), tiny_zero123(), tiny_zero123()
    parts = {"unet": prior.unet, "vae": prior.vae, "image_encoder": prior.image_encoder, "schedule": prior.schedule}
    parts |= {"pixel_mean": prior.pixel_mean, "pixel_std": prior.pixel_std, "pose_variant": "xl"}
    parts["camera_projection"] = prior.camera_projection
    narrow.camera_projection.proj = torch.nn.Linear(12, 12)
    with pytest.raises(ValueError, match="expected image encoder width plus four pose numbers 12, but got 20"):
        Zero123Prior(**{**parts, "camera_projection": narrow.camera_projection})
    grey.unet.register_to_config(in_channels=4)
    with pytest.raises(ValueError, match="do not make a Zero123: expected unet in_channels 8, but got 4"):
        Zero123Prior(**{**parts, "unet": grey.unet})
