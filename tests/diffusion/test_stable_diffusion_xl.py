"""Stable Diffusion XL as a prior: its folder, its conditioning, and guidance with the cache."""

import json
import math
import shutil
from dataclasses import replace

import pytest
import torch
from diffusers import StableDiffusionXLPipeline

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior, StableDiffusionXLPrior
from hash3d.training.guide import load_priors, load_stable_diffusion
from hash3d.training.trainer import Trainer
from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_models import VIEW, tiny_stable_diffusion_xl
from tests.tiny_recipes import OFTEN

NOW = torch.tensor([400])


@pytest.fixture(scope="module")
def prior():
    return tiny_stable_diffusion_xl().requires_grad_(False)


@pytest.fixture(scope="module")
def folder(prior, tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "xl"
    prior.save(folder)
    return folder


def pair_of(prior, prompt="a red mug"):
    noisy = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    return prior.make_guided_inputs(noisy, NOW, prior.embed([prompt]), prior.embed([""]))


@pytest.mark.parametrize("zeros", [True, False])
def test_the_conditioning_is_that_of_diffusers_own_pipeline(folder, zeros, tmp_path):
    folder = shutil.copytree(folder, tmp_path / "xl")
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": zeros}))
    StableDiffusionPrior.load(folder).save(tmp_path / "saved")
    prior = StableDiffusionPrior.load(tmp_path / "saved")
    pipeline = StableDiffusionXLPipeline.from_pretrained(folder, low_cpu_mem_usage=False)
    texts = pipeline.encode_prompt("a red mug", device="cpu", do_classifier_free_guidance=True)
    inputs, size = pair_of(prior), (prior.image_size, prior.image_size)
    added = inputs["added_cond_kwargs"]
    for rows, (conditional, unconditional) in (
        (inputs["encoder_hidden_states"], texts[:2]),
        (added["text_embeds"], texts[2:]),
    ):
        torch.testing.assert_close(rows, torch.cat([conditional, unconditional]))
    sizes = pipeline._get_add_time_ids(size, (0, 0), size, torch.float32, prior.text_encoder_2.config.projection_dim)
    assert torch.equal(added["time_ids"], sizes.expand(2, -1))


def test_a_folder_is_read_by_the_stable_diffusion_loader_bit_for_bit(prior, folder):
    loaded = load_stable_diffusion(str(folder), torch.device("cpu"))
    assert type(loaded) is StableDiffusionXLPrior
    inputs = [pair_of(each) for each in (prior, loaded)]
    torch.testing.assert_close(*inputs, rtol=0, atol=0)
    assert json.loads((folder / "model_index.json").read_text())["_class_name"] == "StableDiffusionXLPipeline"


def test_the_autoencoder_stays_in_single_precision_where_it_would_overflow(prior, folder):
    half = StableDiffusionPrior.load(folder, dtype=torch.float16)
    assert (half.dtype, half.vae.dtype) == (torch.float16, torch.float32)
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    assert half.encode(images).dtype == torch.float16
    assert half.decode(half.encode(images)).shape == images.shape


def test_encoders_that_do_not_fit_the_unet_are_refused(prior):
    parts = {name: getattr(prior, name) for name in (*StableDiffusionXLPrior.parts, "schedule") if name != "scheduler"}
    with pytest.raises(ValueError, match=r"unet cross_attention_dim 12, but got 28"):
        StableDiffusionXLPrior(**{**parts, "text_encoder_2": None})


@pytest.mark.parametrize("cut", range(9))
def test_a_shallow_pass_of_its_own_feature_is_the_full_pass_bit_for_bit(prior, cut):
    partial, inputs = PartialUNet(prior.unet, cut), pair_of(prior)
    output, feature = partial.full_pass(**inputs)
    assert partial.num_cuts == 9
    assert torch.equal(output.sample, prior.unet(**inputs).sample)
    assert torch.equal(partial.shallow_pass(feature.clone(), **inputs).sample, output.sample)


@pytest.mark.parametrize("name", ["text_embeds", "time_ids"])
def test_what_is_added_to_the_timestep_counts(name):
    prior = tiny_stable_diffusion_xl().requires_grad_(False)
    cache, inputs = apply_hash3d(prior.unet, Hash3DConfig()), pair_of(prior)
    for change in (0.0, 1.0, 0.0):
        added = inputs["added_cond_kwargs"]
        with cache.view(**VIEW):
            prior.unet(**{**inputs, "added_cond_kwargs": {**added, name: added[name] + change}})
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)


def test_a_system_trains_by_it_with_the_cache_as_without(folder, tiny):
    """The first visits of the two cells are full passes: the series part at the first hit."""
    recipe = tiny("sds_gs", cache=replace(OFTEN, reuse_probability=1.0), steps=4, text_prior=folder)
    losses = []
    for cache in (None, recipe.cache):
        trainer = Trainer(replace(recipe, cache=cache), load_priors(recipe, torch.device("cpu")), None)
        losses.append([trainer.step()["loss"] for _ in range(4)])
    off, on = losses
    assert on[:2] == off[:2]
    assert on[2] != off[2]
    assert math.isfinite(on[3])
    assert (trainer.cache.statistics.full, trainer.cache.statistics.shallow) == (2, 2)


def test_the_hub_is_asked_for_the_second_encoder_too(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("hash3d.guidance.latent_guidance.resolve_folder", lambda _, parts, __: asked.extend(parts))
    monkeypatch.setattr(StableDiffusionPrior, "load", lambda *_, **__: tiny_stable_diffusion_xl())
    load_stable_diffusion("owner/model", torch.device("cpu"))
    assert {"text_encoder_2", "tokenizer_2", "text_encoder", "unet"} <= set(asked)
