"""Turn a single file, as Stable Diffusion and Zero123 were published, into a diffusers folder.

Nothing in a file is run: its tensors are read, widths and depths off them, and diffusers' functions rename them. LDM's
names: `model.diffusion_model` is the U-Net (`model_ema` its running mean, taken if there), `first_stage_model` the
autoencoder, `cond_stage_model` the encoder of texts or images (`conditioner` both of XL), `cc_projection` Zero123's.
"""

import re
import warnings
from hashlib import blake2b
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from .latent_prior import LatentPrior
from .loading import assign, cache_folder
from .noise import NoiseSchedule
from .pose import PoseVariant, read_variant

UNET, VAE, CLIP, VISION = "model.diffusion_model.", "first_stage_model.", "cond_stage_model.", "model.visual."
XL, V = "conditioner.embedders.", "v_pred"
TOKENIZER = "openai/clip-vit-large-patch14"
"""The vocabulary of all Stable Diffusions, which no single file holds."""
EMBEDDINGS = (
    ("embeddings.position_embedding.weight", "embeddings.token_embedding.weight"),
    ("positional_embedding", "token_embedding.weight"),
)
"""Of places and words, in the text encoders of Stable Diffusion 1 and 2."""
Weights = dict[str, Tensor]


class _Inert:
    """Stands for whatever a checkpoint names besides tensors, such as the callbacks of its trainer."""

    def __init__(self, *_: Any, **__: Any) -> None: ...


def convert_file(
    path: Path, folder: Path, *, pose: PoseVariant | None = None, tokenizer: str = TOKENIZER
) -> LatentPrior:
    """Write the diffusers folder of a single file, and return the model.

    Args:
        path: a `.safetensors`, or a `.ckpt` of PyTorch 1.6 or newer, of which only tensors are unpickled.
        folder: where to write.
        pose: the pose convention of a Zero123; None takes it from the file's name.
        tokenizer: a folder with `vocab.json` and `merges.txt`, or a hub name, for a Stable Diffusion.

    Raises:
        ValueError: the file is no Stable Diffusion 1.x, 2.x or XL, or Zero123, or its convention is not known.
    """
    weights = read_file(path)
    if "ztsnr" in weights:
        raise ValueError(f"Expected the schedule of Stable Diffusion, but {path} is of one with zero terminal SNR.")
    if UNET + "input_blocks.0.0.weight" not in weights or VAE + "encoder.conv_in.weight" not in weights:
        raise ValueError(f"Expected {path} to hold a whole Stable Diffusion or Zero123, but it has no {UNET}*.")
    make = _zero123 if "cc_projection.weight" in weights else _stable_diffusion
    try:
        prior = make(weights, path, pose, tokenizer)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
        problem = f"it does not convert ({type(error).__name__}: {error}). Fetch it anew."
        raise ValueError(f"Expected {path} to hold a whole Stable Diffusion or Zero123, but {problem}") from error
    prior.save(folder)
    return prior


def converted_folder(path: Path) -> Path:
    """The folder of a single file in the user's cache, converted at its first use."""
    state = path.stat()
    name = blake2b(repr((str(path.resolve()), state.st_size, state.st_mtime_ns)).encode(), digest_size=4).hexdigest()
    folder = cache_folder() / f"{path.stem}-{name}"
    if not (folder / "model_index.json").is_file():  # The last file that is written.
        convert_file(path, folder)
    return folder


def read_file(path: Path) -> Weights:
    """The tensors of a single file by name. Raises `ValueError` if it cannot be read."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, "pt") as file:
                said = [V] * ((file.metadata() or {}).get("modelspec.prediction_type") == "v")
                return dict.fromkeys(said, torch.empty(0)) | {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        strangers: Any = [(_Inert, name) for name in torch.serialization.get_unsafe_globals_in_checkpoint(path)]
        with torch.serialization.safe_globals(strangers):
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        return {name: value for name, value in found.get("state_dict", found).items() if isinstance(value, Tensor)}
    except Exception as error:
        raise ValueError(f"Expected the tensors of a model in {path}, but it cannot be read. Fetch it anew.") from error


def _fill(kind: Any, config: Any, tensors: Weights) -> Any:
    """A model of a configuration with these tensors, in the dtype of the first."""
    try:
        with torch.device("meta"):
            model = kind(**config) if isinstance(config, dict) else kind(config)
        assign(model, tensors, next(iter(tensors.values())).dtype)
    except (StopIteration, ValueError) as error:
        raise ValueError(f"The file's {kind.__name__} does not convert: {error or 'it has no tensors.'}") from error
    return model


def _part(weights: Weights, prefix: str) -> Weights:
    """The tensors of a part, by their names in it."""
    return {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}


def _count(weights: Weights, prefix: str) -> int:
    """How many numbered layers are below a name."""
    return len({match[1] for name in weights if (match := re.match(re.escape(prefix) + r"\.(\d+)\.", name))})


def convert_unet(weights: Weights, size: int) -> UNet2DConditionModel:
    """The diffusers U-Net, for latents of a size, of the LDM one whose weights are named `model.diffusion_model.*`."""
    from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint

    config = read_unet_config(_part(weights, UNET), size)
    averaged = any(name.startswith("model_ema.diffusion_model") for name in weights)
    unet: UNet2DConditionModel = _fill(
        UNet2DConditionModel, config, convert_ldm_unet_checkpoint(weights, config, extract_ema=averaged)
    )
    return unet


def _common(weights: Weights, size: int) -> dict[str, Any]:
    """U-Net, autoencoder and schedule, as arguments of a prior's constructor."""
    from diffusers.loaders.single_file_utils import convert_ldm_vae_checkpoint

    config = _read_vae_config(_part(weights, VAE), size)
    return {
        "unet": convert_unet(weights, size),
        "vae": _fill(AutoencoderKL, config, convert_ldm_vae_checkpoint(weights, config)),
        "schedule": NoiseSchedule(prediction_type="v_prediction" if V in weights else "epsilon"),
    }


def read_unet_config(unet: Weights, size: int) -> dict[str, Any]:
    """The configuration of the diffusers U-Net with these weights, for latents of a size.

    Heads cannot be read off: Stable Diffusion 1 and Zero123, whose projections are convolutions, have 8; later ones,
    whose projections are linear, have one for each 64 channels.
    """
    levels: list[list[tuple[int, int]]] = [[]]
    for number in range(1, _count(unet, "input_blocks")):
        block = f"input_blocks.{number}"
        if f"{block}.0.op.weight" in unet:
            levels.append([])
        else:
            depth = _count(unet, f"{block}.1.transformer_blocks")
            levels[-1].append((len(unet[f"{block}.0.out_layers.3.weight"]), depth))
    channels, depths = zip(*(level[-1] for level in levels), strict=True)
    projection = unet["middle_block.1.proj_in.weight"]
    linear, added = projection.ndim == 2, unet.get("label_emb.0.0.weight")
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": 256}  # Of Stable Diffusion XL.
    kinds = ["CrossAttn" if depth else "" for depth in depths]
    return {
        "sample_size": size,
        "in_channels": unet["input_blocks.0.0.weight"].shape[1],
        "out_channels": len(unet["out.2.weight"]),
        "block_out_channels": channels,
        "layers_per_block": len(levels[0]),
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)),
        "transformer_layers_per_block": tuple(max(depth, 1) for depth in depths),
        "cross_attention_dim": unet["middle_block.1.transformer_blocks.0.attn2.to_k.weight"].shape[1],
        "attention_head_dim": tuple(max(width // 64, 1) for width in channels) if linear else 8,
        "use_linear_projection": linear,
        **({} if added is None else {**sizes, "projection_class_embeddings_input_dim": added.shape[1]}),
    }


def _read_vae_config(vae: Weights, size: int) -> dict[str, Any]:
    """The configuration of the diffusers autoencoder with these weights, for latents of a size."""
    levels = range(_count(vae, "encoder.down"))
    return {
        "block_out_channels": tuple(len(vae[f"encoder.down.{level}.block.0.conv1.weight"]) for level in levels),
        "layers_per_block": _count(vae, "encoder.down.0.block"),
        "down_block_types": ("DownEncoderBlock2D",) * len(levels),
        "up_block_types": ("UpDecoderBlock2D",) * len(levels),
        "latent_channels": len(vae["post_quant_conv.weight"]),
        "sample_size": size * 2 ** (len(levels) - 1),
    }


def _clip_size(own: Weights, width: int) -> dict[str, int]:
    """Width, depth and heads of an encoder of CLIP: one for each 64 channels."""
    inner = next(len(value) for name, value in own.items() if name.endswith(("c_fc.weight", "fc1.weight")))
    layers = max(_count(own, "transformer.resblocks"), _count(own, "encoder.layers"))
    size = {"hidden_size": width, "intermediate_size": inner}
    return size | {"num_hidden_layers": layers, "num_attention_heads": max(width // 64, 1)}


def _rename_vision(own: Weights) -> Weights:
    """The tensors of OpenAI's image encoder by the names of transformers, which has three for one in attention."""
    names = {
        "transformer.resblocks.": "vision_model.encoder.layers.", ".ln_1.": ".layer_norm1.", ".ln_2.": ".layer_norm2.",
        ".c_fc.": ".fc1.", ".c_proj.": ".fc2.", ".attn.": ".self_attn.", "ln_pre.": "vision_model.pre_layrnorm.",
        "ln_post.": "vision_model.post_layernorm.", "conv1.": "vision_model.embeddings.patch_embedding.",
        "class_embedding": "vision_model.embeddings.class_embedding",
        "positional_embedding": "vision_model.embeddings.position_embedding.weight",
    }  # fmt: skip
    found = {"visual_projection.weight": own["proj"].T.contiguous()}
    for name, value in own.items():
        for old, new in names.items():
            name = name.replace(old, new)
        if "in_proj_" in name:
            for each, part in zip("qkv", value.chunk(3), strict=True):
                found[name.replace("in_proj_", f"{each}_proj.")] = part
        elif name != "proj":
            found[name] = value
    return found


def _zero123(weights: Weights, path: Path, pose: PoseVariant | None, _: str) -> LatentPrior:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    from .zero123 import CLIPCameraProjection, Zero123Prior

    variant = pose or read_variant(path.stem)
    if variant is None:
        problem = f"Expected the name of {path} to tell its pose convention, as stable_zero123.ckpt does."
        raise ValueError(f"{problem} Run hash3d convert with --pose stable or --pose xl.")
    own = _part(weights, CLIP + VISION)
    (width, projected), patch = own["proj"].shape, own["conv1.weight"].shape[-1]
    side = patch * round((len(own["positional_embedding"]) - 1) ** 0.5)
    config = CLIPVisionConfig(**_clip_size(own, width), projection_dim=projected, patch_size=patch, image_size=side)
    tokens, numbers = weights["cc_projection.weight"].shape
    projection = {f"proj.{name}": value for name, value in _part(weights, "cc_projection.").items()}
    return Zero123Prior(
        **_common(weights, 32),
        image_encoder=_fill(CLIPVisionModelWithProjection, config, _rename_vision(own)),
        camera_projection=_fill(CLIPCameraProjection, {"embedding_dim": numbers - 4, "output_dim": tokens}, projection),
        pixel_mean=tuple(OPENAI_CLIP_MEAN),
        pixel_std=tuple(OPENAI_CLIP_STD),
        pose_variant=variant,
    )


def _stable_diffusion(weights: Weights, path: Path, _: object, tokenizer: str) -> LatentPrior:
    from .stable_diffusion import StableDiffusionPrior, StableDiffusionXLPrior

    if not any(name.startswith(XL) for name in weights):
        second = CLIP + "model.ln_final.weight" in weights  # OpenCLIP, of Stable Diffusion 2, its last layer left out.
        if second and V not in weights:
            warnings.warn(f"{path} is taken for a model that predicts noise, as those of 512 pixels do.", stacklevel=3)
        text = _text_encoder(weights, CLIP + ("model." if second else "transformer."), left_out=int(second))
        words = _fetch_tokenizer(tokenizer, text, "!" if second else None)
        return StableDiffusionPrior(**_common(weights, 64), text_encoder=text, tokenizer=words)
    texts = [_text_encoder(weights, XL + name) for name in ("0.transformer.", "1.model.")]
    parts = _common(weights, 128)
    parts["vae"].register_to_config(scaling_factor=0.13025)
    return StableDiffusionXLPrior(
        **parts,
        text_encoder=texts[0], tokenizer=_fetch_tokenizer(tokenizer, texts[0], None),
        text_encoder_2=texts[1], tokenizer_2=_fetch_tokenizer(tokenizer, texts[1], "!"),
    )  # fmt: skip


def _text_encoder(weights: Weights, prefix: str, left_out: int = 0) -> Any:
    """The text encoder below a prefix: CLIP's, or OpenCLIP's, with its projection unless layers are left out."""
    from diffusers.loaders.single_file_utils import convert_ldm_clip_checkpoint, convert_open_clip_checkpoint
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    is_open = prefix.endswith(".model.")
    own = _part(weights, prefix if is_open else prefix + "text_model.")
    places, words = (own[name] for name in EMBEDDINGS[is_open])
    size = _clip_size(own, places.shape[1])
    size["num_hidden_layers"] -= left_out
    size |= {"projection_dim": own["text_projection"].shape[1]} if is_open and not left_out else {}
    config = CLIPTextConfig(
        **size, vocab_size=len(words), max_position_embeddings=len(places), eos_token_id=len(words) - 1,
        hidden_act="gelu" if is_open else "quick_gelu",
    )  # fmt: skip
    like: Any = SimpleNamespace(config=config)
    found = convert_open_clip_checkpoint(like, weights, prefix) if is_open else convert_ldm_clip_checkpoint(weights)
    return _fill(CLIPTextModelWithProjection if "projection_dim" in size else CLIPTextModel, config, found)


def _fetch_tokenizer(source: str, encoder: Any, padding: str | None) -> Any:
    """The tokenizer of a folder, of its `tokenizer/`, or of the hub, for an encoder."""
    from transformers import CLIPTokenizer

    inside, length = Path(source) / "tokenizer", encoder.config.max_position_embeddings
    try:
        found = CLIPTokenizer.from_pretrained(inside if inside.is_dir() else source, model_max_length=length)
    except Exception as error:
        problem = f"Expected a CLIP tokenizer at {source}. Pass --tokenizer a folder with vocab.json."
        raise ValueError(problem) from error
    if padding is not None:
        found.pad_token = padding
    return found
