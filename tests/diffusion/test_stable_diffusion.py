"""The conventions of Stable Diffusion, and its folder."""

import json
import shutil

import pytest
import torch
from diffusers import StableDiffusionPipeline

from hash3d.diffusion.loading import EMBEDDED, embedded_folder, resolve_folder
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from prior_training.tokenizer import build_tokenizer
from tests.tiny_models import tiny_stable_diffusion

TEXT_IN_TIME = {"addition_embed_type": "text", "addition_embed_type_num_heads": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prior") / "tiny"
    tiny_stable_diffusion().save(folder)
    return folder


def predict(prior):
    noisy = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        inputs = prior.make_guided_inputs(
            noisy, torch.tensor([300, 400]), prior.embed(["a red mug", "a"]), prior.embed(["", ""])
        )
        return prior.unet(**inputs).sample


def test_rows_of_the_guidance_pair():
    prior = tiny_stable_diffusion()
    noisy, timesteps = torch.randn(2, 4, 8, 8), torch.tensor([300, 400])
    conditional, unconditional = prior.embed(["a red mug", "a photo"]), prior.embed(["", ""])
    inputs = prior.make_guided_inputs(noisy, timesteps, conditional, unconditional)
    assert torch.equal(inputs["sample"], torch.cat([noisy, noisy]))
    assert inputs["timestep"].tolist() == [300, 400, 300, 400]
    assert torch.equal(inputs["encoder_hidden_states"], torch.cat([conditional, unconditional]))
    assert set(inputs) == set(prior.make_inputs(noisy, timesteps, conditional))


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_diffusers_own_pipeline_reads_the_folder(kind, tmp_path):
    prior = tiny_stable_diffusion(kind, **(TEXT_IN_TIME if kind == "v_prediction" else {}))
    prior.save(tmp_path)
    pipeline = StableDiffusionPipeline.from_pretrained(tmp_path, low_cpu_mem_usage=False)
    pipeline.set_progress_bar_config(disable=True)
    pair = pipeline.encode_prompt("a red mug", "cpu", 1, True)
    torch.testing.assert_close(pair[0], prior.embed(["a red mug"]))
    torch.testing.assert_close(pair[1], prior.embed([""]))
    assert pipeline.scheduler.config.prediction_type == kind
    image = pipeline("a red mug", num_inference_steps=2, output_type="np").images
    assert image.shape == (1, 32, 32, 3)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_save_and_load_bit_for_bit(kind, tmp_path):
    prior = tiny_stable_diffusion(kind)
    prior.save(tmp_path)
    loaded = StableDiffusionPrior.load(tmp_path)
    loaded.save(tmp_path / "again")
    again = StableDiffusionPrior.load(tmp_path / "again", dtype=torch.bfloat16)
    assert torch.equal(predict(loaded), predict(prior))
    assert loaded.schedule.prediction_type == kind
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    assert {parameter.dtype for parameter in again.parameters()} == {torch.bfloat16}
    assert torch.equal(again.tokenize(["a red zebra"]), prior.tokenize(["a red zebra"]))
    names = {"vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"}
    assert {path.name for path in (tmp_path / "again" / "tokenizer").iterdir()} == names


def test_the_published_names_of_the_text_encoder(folder):
    """Every tensor of Stable Diffusion's text encoder lies under `text_model.`."""
    from safetensors.torch import load_file

    assert all(name.startswith("text_model.") for name in load_file(folder / "text_encoder" / "model.safetensors"))


def test_embeddings_are_padded_and_long_prompts_are_refused():
    prior = tiny_stable_diffusion()
    assert prior.embed(["a mug", "red " * 75]).shape == (2, 77, 12)
    row = prior.tokenize(["a mug"])[0]
    assert row[0] == prior.tokenizer.bos_token_id
    assert (row[3:] == prior.tokenizer.eos_token_id).all()
    with pytest.raises(ValueError, match=r"Expected a prompt of at most 77 tokens .* has 78\. Make it shorter\."):
        prior.embed(["a mug", "red " * 76])


def test_pictures_and_latents_are_the_autoencoders():
    prior = tiny_stable_diffusion()
    images = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        latents = prior.encode(images)
        assert torch.equal(latents, prior.vae.encode(images).latent_dist.mode() * 0.5)
        assert torch.equal(prior.decode(latents), prior.vae.decode(latents / 0.5).sample)
    assert prior.image_size == 32


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_missing_part_is_one_sentence(folder, part, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "prior")
    shutil.rmtree(broken / part)
    with pytest.raises(ValueError, match=part) as caught:
        StableDiffusionPrior.load(broken)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["vocab.json", "merges.txt"])
def test_a_damaged_tokenizer_is_one_sentence(folder, file, tmp_path):
    broken = shutil.copytree(folder, tmp_path / "prior")
    (broken / "tokenizer" / file).write_text("{not json")
    with pytest.raises(ValueError, match=r"tokenizer does not load") as caught:
        StableDiffusionPrior.load(broken)
    assert "\n" not in str(caught.value)


def test_parts_that_do_not_fit_are_refused(folder, tmp_path):
    prior = tiny_stable_diffusion()
    parts = {name: getattr(prior, name) for name in ("unet", "vae", "text_encoder", "tokenizer", "schedule")}
    with pytest.raises(ValueError, match="do not make a Stable Diffusion: expected text encoder vocab_size"):
        StableDiffusionPrior(**{**parts, "tokenizer": build_tokenizer()})
    prior.vae.register_to_config(shift_factor=0.1)
    with pytest.raises(ValueError, match="but it has shift_factor"):
        StableDiffusionPrior(**parts)
    prior.vae.register_to_config(shift_factor=None)
    prior.unet.register_to_config(time_cond_proj_dim=8)
    with pytest.raises(ValueError, match="expected unet time_cond_proj_dim None, but got 8"):
        StableDiffusionPrior(**parts)
    prior.unet.register_to_config(time_cond_proj_dim=None)
    prior.unet.register_to_config(in_channels=8)
    with pytest.raises(ValueError, match="expected unet in_channels 4, but got 8"):
        StableDiffusionPrior(**parts)
    narrow = shutil.copytree(folder, tmp_path / "prior")
    settings = narrow / "tokenizer" / "tokenizer_config.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "model_max_length": 50}))
    with pytest.raises(ValueError, match="expected tokenizer model_max_length 77, but got 50"):
        StableDiffusionPrior.load(narrow)


def test_an_embedded_prior_that_is_not_there(monkeypatch, tmp_path):
    assert EMBEDDED == ("mini-zero123", "mini-sd")
    monkeypatch.setattr("hash3d.diffusion.loading.embedded_folder", lambda name: tmp_path / name)
    with pytest.raises(FileNotFoundError, match="to hold the prior 'mini-sd', but it is missing"):
        resolve_folder("mini-sd", ())
    assert embedded_folder("mini-sd").name == "mini-sd"
