"""Folders in the published priors' layout, with random half-precision weights, to measure time and memory.

Random weights make no picture, but every tensor has its real shape, so that time and memory are the real ones.
"""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from .loading import embedded_folder
from .noise import NoiseSchedule
from .stable_diffusion import StableDiffusionPrior, load_tokenizer
from .zero123 import CLIPCameraProjection, Zero123Prior

Settings = dict[str, Any]
ZERO123, SD_15, SD_21 = "stable-zero123", "stable-diffusion-1.5", "stable-diffusion-2.1-base"
LAYOUTS: dict[tuple[str, ...], tuple[str, ...]] = {
    ("image",): (ZERO123,),
    ("prompt",): (SD_21,),
    ("image", "prompt"): (ZERO123, SD_15),
}
"""Which priors a system of full size asks, by what it starts from (`SystemInfo.inputs`)."""
UNETS: dict[str, Settings] = {
    ZERO123: {"sample_size": 32, "in_channels": 8, "cross_attention_dim": 768, "attention_head_dim": 8},
    SD_15: {"sample_size": 64, "cross_attention_dim": 768, "attention_head_dim": 8},
    SD_21: {
        "sample_size": 64,
        "cross_attention_dim": 1024,
        "attention_head_dim": (5, 10, 20, 20),
        "use_linear_projection": True,
    },
}
"""860 to 866 million parameters."""
VAE: Settings = {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2}
TEXT_ENCODERS: dict[str, Settings] = {
    SD_15: {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    SD_21: {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 23,
        "num_attention_heads": 16,
        "hidden_act": "gelu",
    },
}
IMAGE_ENCODER: Settings = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 768,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
VOCABULARY = 49_408

TINY_UNET: Settings = {
    "sample_size": 8,
    "block_out_channels": (8, 8, 16, 16),
    "cross_attention_dim": 16,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
TINY_VAE: Settings = {"block_out_channels": (8, 8, 8, 8), "norm_num_groups": 4}
TINY_ENCODER: Settings = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "projection_dim": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}


def write_random_prior(name: str, folder: Path, *, device: str = "cpu", tiny: bool = False) -> None:
    """Write a folder of the prior `name`, a key of UNETS, unless it is whole already.

    `device`: where the weights are drawn; a GPU is quicker. `tiny`: the same parts and names with narrow layers.
    """
    if (folder / "model_index.json").exists():  # The last file that is written.
        return
    torch.manual_seed(0)
    with torch.device(device):
        unet = UNet2DConditionModel(**{**UNETS[name], **(TINY_UNET if tiny else {})})
        vae = _autoencoder(unet.config.sample_size, tiny)
    prior = (_zero123 if name == ZERO123 else _stable_diffusion)(name, unet, vae, device, tiny)
    prior.half().save(folder)


def _autoencoder(latent_size: int, tiny: bool) -> AutoencoderKL:
    return AutoencoderKL(
        **{**VAE, **(TINY_VAE if tiny else {})},
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        sample_size=8 * latent_size,
        scaling_factor=0.18215,
    )


def _zero123(name: str, unet: Any, vae: AutoencoderKL, device: str, tiny: bool) -> Zero123Prior:
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device(device):
        encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(**{**IMAGE_ENCODER, **(TINY_ENCODER if tiny else {})}))
        projection = CLIPCameraProjection(
            embedding_dim=encoder.config.projection_dim, output_dim=unet.config.cross_attention_dim
        )
    return Zero123Prior(
        unet=unet,
        vae=vae,
        image_encoder=encoder,
        camera_projection=projection,
        schedule=NoiseSchedule(),
        pixel_mean=(0.48145466, 0.4578275, 0.40821073),
        pixel_std=(0.26862954, 0.26130258, 0.27577711),
        pose_variant="stable",
    )


def _stable_diffusion(name: str, unet: Any, vae: AutoencoderKL, device: str, tiny: bool) -> StableDiffusionPrior:
    from transformers import CLIPTextConfig, CLIPTextModel

    tokenizer = load_tokenizer(embedded_folder("mini-sd"))
    special = {token: getattr(tokenizer, token) for token in ("bos_token_id", "eos_token_id", "pad_token_id")}
    settings = {**TEXT_ENCODERS[name], **(TINY_ENCODER if tiny else {}), **special}
    with torch.device(device):
        encoder = CLIPTextModel(CLIPTextConfig(vocab_size=VOCABULARY, **settings))
    return StableDiffusionPrior(unet=unet, vae=vae, text_encoder=encoder, tokenizer=tokenizer, schedule=NoiseSchedule())
