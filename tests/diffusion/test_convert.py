"""Single files: the small LDM U-Net, and other parts by the names they were published under, against the models."""

import math
import pickle
import re
from contextlib import nullcontext

import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModelWithProjection

from hash3d.cli import run_command
from hash3d.diffusion.convert import convert_file, read_file
from hash3d.diffusion.loading import resolve_folder
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior, save_tokenizer
from hash3d.diffusion.zero123 import Zero123Prior
from tests.tiny_ldm import ldm_inputs, tiny_ldm
from tests.tiny_models import tiny_stable_diffusion, tiny_stable_diffusion_xl

SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 1}


def named(prefix, model, rules=()):
    """A model's weights by other names: each rule a pattern and what replaces it."""
    found = {}
    for name, value in model.state_dict().items():
        for pattern, new in rules:
            name = re.sub(pattern, new, name)
        found[prefix + name] = value.clone()
    return found


VAE_RULES = (
    (r"down_blocks\.(\d)\.resnets\.", r"down.\1.block."),
    (r"up_blocks\.(\d)\.resnets\.", lambda found: f"up.{2 - int(found[1])}.block."),
    (r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample"),
    (r"up_blocks\.(\d)\.upsamplers\.0", lambda found: f"up.{2 - int(found[1])}.upsample"),
    (r"mid_block\.resnets\.(\d)", lambda found: f"mid.block_{int(found[1]) + 1}"),
    (r"mid_block\.attentions\.0", "mid.attn_1"), ("conv_shortcut", "nin_shortcut"), ("conv_norm_out", "norm_out"),
    ("group_norm", "norm"), (r"to_out\.0", "proj_out"), (r"to_([qkv])\.", r"\1."),
)  # fmt: skip
"""From diffusers' names of an autoencoder of three levels to LDM's."""
OPEN_CLIP_RULES = (
    (r"^(text_model\.|vision_model\.)", ""), (r"encoder\.layers", "transformer.resblocks"),
    (r"layer_norm(\d)", r"ln_\1"), (r"\.fc1", ".c_fc"), (r"\.fc2", ".c_proj"),
    (r"self_attn", "attn"), ("embeddings.position_embedding.weight", "positional_embedding"),
    ("embeddings.token_embedding", "token_embedding"), ("embeddings.class_embedding", "class_embedding"),
    ("embeddings.patch_embedding", "conv1"), ("pre_layrnorm", "ln_pre"), ("post_layernorm", "ln_post"),
    ("final_layer_norm", "ln_final"),
)  # fmt: skip
"""From transformers' names of an encoder of CLIP to OpenAI's and OpenCLIP's."""


def join_attention(weights):
    """OpenAI's and OpenCLIP's attention has one tensor for queries, keys and values."""
    for name in [name for name in weights if ".q_proj." in name]:
        parts = [weights.pop(name.replace(".q_proj.", f".{each}_proj.")) for each in "qkv"]
        weights[name.replace(".q_proj.", ".in_proj_")] = torch.cat(parts)
    for name in [name for name in weights if name.endswith("visual_projection.weight")]:
        weights[name.replace("visual_projection.weight", "proj")] = weights.pop(name).T
    return weights


def common(**changes):
    """U-Net and autoencoder, and their weights."""
    unet, kinds = (
        tiny_ldm(**{"num_heads": 8, "channel_mult": (1, 2), **changes}),
        ("DownEncoderBlock2D", "UpDecoderBlock2D"),
    )
    down, up = ((kind,) * 3 for kind in kinds)
    shape = {"block_out_channels": (32, 32, 32), "down_block_types": down, "up_block_types": up}
    vae = AutoencoderKL(**shape, latent_channels=4).requires_grad_(False).eval()
    return unet, vae, {**named("model.diffusion_model.", unet), **named("first_stage_model.", vae, VAE_RULES)}


def predictions(unet, prior):
    inputs = ldm_inputs(unet)
    own = prior.unet(inputs["x"], inputs["timesteps"], encoder_hidden_states=inputs["context"]).sample
    return own, unet(**inputs)


@pytest.fixture
def zero123(tmp_path):
    unet, vae, weights = common(in_channels=8, context_dim=24)
    torch.manual_seed(2)
    config = CLIPVisionConfig(**SIZE, projection_dim=20, image_size=32, patch_size=16)
    encoder = CLIPVisionModelWithProjection(config).eval()
    weights |= join_attention(named("cond_stage_model.model.visual.", encoder, OPEN_CLIP_RULES))
    weights |= named("cc_projection.", torch.nn.Linear(24, 24))
    path = tmp_path / "stable_zero123.ckpt"
    return path, unet, vae, encoder, weights


def test_a_zero123_makes_the_same_prediction(zero123, tmp_path):
    path, unet, vae, encoder, weights = zero123
    torch.save({"state_dict": weights, "global_step": 5}, path)
    convert_file(path, tmp_path / "folder")
    prior = Zero123Prior.load(tmp_path / "folder")
    torch.testing.assert_close(*predictions(unet, prior), atol=1e-5, rtol=0)
    pixels, images = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(prior.vae.encode(images).latent_dist.mean, vae.encode(images).latent_dist.mean)
    torch.testing.assert_close(prior.vae.decode(pixels[:, :1, :8, :8].repeat(1, 4, 1, 1)).sample.shape, images.shape)
    torch.testing.assert_close(prior.image_encoder(pixels).image_embeds, encoder(pixels).image_embeds)
    assert torch.equal(prior.camera_projection.proj.weight, weights["cc_projection.weight"])
    assert (prior.pose_variant, prior.unet.config.in_channels) == ("stable", 8)


def test_the_running_mean_of_the_weights_is_taken(zero123, tmp_path):
    path, unet, *_, weights = zero123
    names = [name for name in weights if name.startswith("model.diffusion_model.")]
    averaged = {"model_ema." + name.removeprefix("model.").replace(".", ""): weights[name] for name in names}
    noise = {name: torch.full_like(weights[name], 7.0) for name in names}
    torch.save({"state_dict": {**weights, **noise, **averaged}}, path)
    torch.testing.assert_close(*predictions(unet, convert_file(path, tmp_path / "folder")), atol=1e-5, rtol=0)


@pytest.mark.parametrize("second", [False, True])
def test_a_stable_diffusion_makes_the_same_prediction(second, tmp_path):
    unet, _, weights = common(context_dim=16)
    torch.manual_seed(3)
    tokenizer = tiny_stable_diffusion().tokenizer
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    act = "gelu" if second else "quick_gelu"
    config = CLIPTextConfig(**SIZE, **ids, vocab_size=len(tokenizer), max_position_embeddings=16, hidden_act=act)
    encoder = CLIPTextModel(config).eval()
    if second:
        weights |= join_attention(named("cond_stage_model.model.", encoder, OPEN_CLIP_RULES))
    else:
        weights |= named("cond_stage_model.transformer.", encoder, [(r"^(?!text_model\.)", "text_model.")])
    save_tokenizer(tokenizer, tmp_path / "words")
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "sd.safetensors")
    with pytest.warns(UserWarning, match="for a model that predicts noise") if second else nullcontext():
        prior = convert_file(tmp_path / "sd.safetensors", tmp_path / "folder", tokenizer=str(tmp_path / "words"))
    torch.testing.assert_close(*predictions(unet, prior), atol=1e-5, rtol=0)
    found = StableDiffusionPrior.load(tmp_path / "folder").embed(["a red mug"])
    output = encoder(prior.tokenize(["a red mug"]), output_hidden_states=True)
    text_model = getattr(encoder, "text_model", encoder)
    before_last = text_model.final_layer_norm(output.hidden_states[-2])
    torch.testing.assert_close(found, before_last if second else output.last_hidden_state)


def test_a_stable_diffusion_xl_makes_the_same_prediction(tmp_path):
    xl = tiny_stable_diffusion_xl()
    unet, _, weights = common(
        context_dim=28, model_channels=64, num_heads=None, depths=(0, 2), label_channels=10 + 6 * 256
    )
    prefix, pooled = "conditioner.embedders.", xl.text_encoder_2
    weights |= named(prefix + "0.transformer.", xl.text_encoder, [(r"^(?!text_model\.)", "text_model.")])
    rules = (*OPEN_CLIP_RULES, (r"text_projection\.weight", "text_projection"))
    weights |= join_attention(named(prefix + "1.model.", pooled, rules))
    weights[prefix + "1.model.text_projection"] = pooled.text_projection.weight.T.contiguous()
    save_tokenizer(xl.tokenizer, tmp_path / "words")
    save_file({name: value.contiguous() for name, value in weights.items()}, tmp_path / "xl.safetensors")
    prior = convert_file(tmp_path / "xl.safetensors", tmp_path / "folder", tokenizer=str(tmp_path / "words"))
    torch.testing.assert_close(prior.embed(["a red mug", ""]), xl.embed(["a red mug", ""]))
    assert (prior.image_size, prior.vae.config.scaling_factor) == (512, 0.13025)
    inputs = prior.make_guided_inputs(
        torch.randn(1, 4, 8, 8), torch.tensor([400]), *prior.embed(["a mug", ""])[:, None]
    )
    added = inputs["added_cond_kwargs"]
    angles = added["time_ids"][..., None] * torch.exp(-math.log(1e4) / 128 * torch.arange(128))
    sizes = torch.cat([angles.cos(), angles.sin()], dim=-1).flatten(1)
    y = torch.cat([added["text_embeds"], sizes], dim=1)
    expected = unet(inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"], y=y)
    torch.testing.assert_close(prior.unet(**inputs).sample, expected, atol=1e-5, rtol=0)


def test_a_file_is_a_prior_and_converted_once(zero123, tmp_path, monkeypatch):
    path, *_, weights = zero123
    torch.save(weights, path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = resolve_folder(str(path), ())
    written = (folder / "model_index.json").stat().st_mtime_ns
    assert folder.parent == tmp_path / "cache/hash3d"
    assert resolve_folder(str(path), ()) == folder
    assert (folder / "model_index.json").stat().st_mtime_ns == written


class Callback:
    """As a trainer's, whose class need not exist where the file is read."""


class Attack:
    def __reduce__(self):
        return (pickle.loads, (b"not run",))


@pytest.mark.parametrize("stranger", [Callback, Attack])
def test_what_a_checkpoint_names_besides_tensors_is_never_run(stranger, zero123, tmp_path, monkeypatch):
    path, *_, weights = zero123
    torch.save({"state_dict": weights, "callbacks": {"best": stranger()}}, path)
    monkeypatch.setattr(Callback, "__init__", lambda self: pytest.fail("it was made"))
    assert convert_file(path, tmp_path / "folder").pose_variant == "stable"


def test_kxics_folder_is_read(zero123, tmp_path):
    path, *_, weights = zero123
    torch.save(weights, path)
    folder = tmp_path / "folder"
    convert_file(path, folder)
    (folder / "clip_camera_projection").rename(folder / "cc_projection")
    (folder / "cc_projection/diffusion_pytorch_model.safetensors").unlink()
    own = {f"projection.{name}": weights[f"cc_projection.{name}"] for name in ("weight", "bias")}
    torch.save(own, folder / "cc_projection/diffusion_pytorch_model.bin")
    prior = Zero123Prior.load(folder, pose_variant="xl")
    assert torch.equal(prior.camera_projection.proj.bias, weights["cc_projection.bias"])


@pytest.mark.parametrize(("mark", "kind"), [({}, "epsilon"), ({"v_pred": torch.ones(1)}, "v_prediction")])
def test_a_file_that_says_that_its_model_predicts_velocity_is_believed(mark, kind, zero123, tmp_path):
    path, *_, weights = zero123
    torch.save({**weights, **mark}, path)
    assert convert_file(path, tmp_path / "folder").schedule.prediction_type == kind
    save_file({"weight": torch.ones(1)}, tmp_path / "a.safetensors", {"modelspec.prediction_type": "v"} if mark else {})
    assert ("v_pred" in read_file(tmp_path / "a.safetensors")) == bool(mark)
    torch.save({**weights, "ztsnr": torch.ones(1)}, path)
    with pytest.raises(ValueError, match="is of one with zero terminal SNR"):
        convert_file(path, tmp_path / "folder")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", "to hold a whole Stable Diffusion or Zero123"),
        ("cond_stage_model.model.visual.ln_post.bias", "CLIPVisionModelWithProjection does not convert: 1 of its"),
        ("model.diffusion_model.out.0.bias", "UNet2DConditionModel does not convert: 1 of its"),
        ("first_stage_model.encoder.down.1.block.0.conv1.weight", "it does not convert .KeyError: "),
    ],
)
def test_what_a_file_lacks_is_named(lost, message, zero123, tmp_path):
    path, *_, weights = zero123
    del weights[lost]
    torch.save(weights, path)
    with pytest.raises(ValueError, match=message):
        run_command(["convert", str(path), "--out", str(tmp_path / "folder")])
    assert not (tmp_path / "folder/model_index.json").exists()


def test_a_name_that_tells_no_convention_asks_for_it(zero123, tmp_path, capsys):
    path, *_, weights = zero123
    other = path.with_name("105000.ckpt")
    torch.save(weights, other)
    with pytest.raises(ValueError, match="hash3d convert with --pose stable or --pose xl"):
        convert_file(other, tmp_path / "folder")
    assert run_command(["convert", str(other), "--out", str(tmp_path / "folder"), "--pose", "xl"]) == 0
    assert Zero123Prior.load(tmp_path / "folder").pose_variant == "xl"


def test_a_conversion_that_was_killed_is_done_again(zero123, tmp_path):
    path, *_, weights = zero123
    torch.save(weights, path)
    (tmp_path / "out/.filling.abcd1234").mkdir(parents=True)
    (tmp_path / "out/unet").mkdir()
    (tmp_path / "out/unet/config.json").write_text("{}")
    words = ["convert", str(path), "--out", str(tmp_path / "out")]
    assert run_command(words) == 0
    Zero123Prior.load(tmp_path / "out")
    with pytest.raises(ValueError, match="new or empty folder"):
        run_command(words)
