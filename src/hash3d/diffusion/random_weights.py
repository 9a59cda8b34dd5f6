"""Write folders in the published priors' layout with random half-precision weights, to measure time and memory.

Random weights make no image, but every tensor has its real shape, so that time and memory are the real ones.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from hash3d.model_files import embedded_folder

from .noise import NoiseSchedule
from .stable_diffusion import StableDiffusionPrior, load_tokenizer
from .zero123 import CLIPCameraProjection, Zero123Prior

ZERO123, SD_15, SD_21 = "stable-zero123", "stable-diffusion-1.5", "stable-diffusion-2.1-base"
LAYOUTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("image",): (ZERO123,),
    ("prompt",): (SD_21,),
    ("image", "prompt"): (ZERO123, SD_15),
}
"""The priors of a full-size system, by its inputs (`SystemInfo.inputs`)."""
_SD_2 = {"attention_head_dim": (5, 10, 20, 20), "use_linear_projection": True}
UNETS: dict[str, dict[str, Any]] = {
    ZERO123: {"sample_size": 32, "cross_attention_dim": 768, "in_channels": 8},
    SD_15: {"sample_size": 64, "cross_attention_dim": 768},
    SD_21: {"sample_size": 64, "cross_attention_dim": 1024, **_SD_2},
}
"""Where they differ from diffusers' defaults. 860 to 866 million parameters."""


def _clip(width: int, layers: int, heads: int) -> dict[str, Any]:
    sizes = {"hidden_size": width, "intermediate_size": 4 * width}
    return {**sizes, "num_hidden_layers": layers, "num_attention_heads": heads}


ENCODERS: dict[str, dict[str, Any]] = {
    ZERO123: {**_clip(1024, 24, 16), "projection_dim": 768, "patch_size": 14},
    SD_15: _clip(768, 12, 12),
    SD_21: {**_clip(1024, 23, 16), "hidden_act": "gelu"},
}
"""CLIP's image encoder, or text encoders."""
_NARROW = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4}
TINY_UNET = {**_NARROW, "sample_size": 8, "cross_attention_dim": 16, "attention_head_dim": 4}
TINY_ENCODER = {**_clip(16, 1, 2), "projection_dim": 16}


def write_random_prior(name: str, folder: Path, *, device: str = "cpu", tiny: bool = False) -> None:
    """Write a folder of the prior `name`, a key of UNETS, unless it is whole already.

    `device`: where the weights are drawn; a GPU is quicker. `tiny`: the same parts and names with narrow layers.
    """
    if (folder / "model_index.json").exists():  # The last file that is written.
        return
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**{**UNETS[name], **(TINY_UNET if tiny else {})})
        vae = AutoencoderKL(
            **(_NARROW if tiny else {"block_out_channels": (128, 256, 512, 512)}),
            layers_per_block=2,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            sample_size=8 * unet.config.sample_size,
        )
    settings = {**ENCODERS[name], **(TINY_ENCODER if tiny else {})}
    make = _zero123 if name == ZERO123 else _stable_diffusion
    make(settings, device, unet=unet, vae=vae, schedule=NoiseSchedule()).half().save(folder)


def _zero123(settings: dict[str, Any], device: str, **common: Any) -> Zero123Prior:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection
    from transformers.image_utils import OPENAI_CLIP_MEAN, OPENAI_CLIP_STD

    with torch.device(device):
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**settings))
        projection = CLIPCameraProjection(encoder.config.projection_dim)
    return Zero123Prior(
        **common, image_encoder=encoder, camera_projection=projection, pixel_mean=tuple(OPENAI_CLIP_MEAN),
        pixel_std=tuple(OPENAI_CLIP_STD), pose_variant="stable",
    )  # fmt: skip


def _stable_diffusion(settings: dict[str, Any], device: str, **common: Any) -> StableDiffusionPrior:
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = load_tokenizer(embedded_folder("mini-sd"))
    special = {token: getattr(tokenizer, token) for token in ("bos_token_id", "eos_token_id", "pad_token_id")}
    with torch.device(device):
        encoder = CLIPTextModel(CLIPTextConfig(**settings, **special))
    return StableDiffusionPrior(**common, text_encoder=encoder, tokenizer=tokenizer)
