"""Sizes and parts of the embedded priors, `mini-zero123` and `mini-sd`."""

from dataclasses import dataclass
from typing import Any

from diffusers import UNet2DConditionModel

from hash3d.diffusion.noise import NoiseSchedule
from hash3d.diffusion.pose import NUM_POSE_FEATURES
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import CLIPCameraProjection, Zero123Prior

from .autoencoder import build_autoencoder


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Sizes of a model."""

    size: int = 128
    autoencoder_channels: tuple[int, ...] = (16, 48, 80)
    unet_channels: tuple[int, ...] = (96, 128, 160)
    unet_layers: int = 2
    cross_width: int = 128
    encoder_width: int = 128
    encoder_layers: int = 3
    """Layers of the image encoder."""
    patch: int = 16
    text_layers: int = 3


TOY = Architecture(
    size=32, autoencoder_channels=(8, 8, 8), unet_channels=(16, 16), unet_layers=1, cross_width=16, encoder_width=16,
    encoder_layers=1, text_layers=1,
)  # fmt: skip


def build_unet(shape: Architecture, *, in_channels: int, **more: Any) -> UNet2DConditionModel:
    """The untrained U-Net of both priors; `more`: how the condition also reaches the time embedding."""
    levels = len(shape.unet_channels)
    return UNet2DConditionModel(
        sample_size=shape.size // 2 ** (len(shape.autoencoder_channels) - 1),
        in_channels=in_channels,
        out_channels=4,
        block_out_channels=shape.unet_channels,
        down_block_types=("DownBlock2D",) + ("CrossAttnDownBlock2D",) * (levels - 1),
        up_block_types=("CrossAttnUpBlock2D",) * (levels - 1) + ("UpBlock2D",),
        layers_per_block=shape.unet_layers,
        cross_attention_dim=shape.cross_width,
        attention_head_dim=4,
        norm_num_groups=16,
        **more,
    )


def build_mini_zero123(shape: Architecture) -> Zero123Prior:
    """The untrained model; the pose's features are a class embedding."""
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    unet = build_unet(
        shape,
        in_channels=8,
        class_embed_type="projection",
        projection_class_embeddings_input_dim=NUM_POSE_FEATURES,
    )
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=shape.encoder_width,
            intermediate_size=3 * shape.encoder_width,
            num_hidden_layers=shape.encoder_layers,
            num_attention_heads=4,
            image_size=shape.size,
            patch_size=shape.patch,
            projection_dim=16,
        )
    )
    projection = CLIPCameraProjection(
        embedding_dim=shape.encoder_width, output_dim=shape.cross_width, tokens="patches", pose_variant="stable"
    )
    return Zero123Prior(
        unet=unet,
        vae=build_autoencoder(shape.autoencoder_channels, shape.size),
        image_encoder=encoder,
        camera_projection=projection,
        schedule=NoiseSchedule(prediction_type="v_prediction"),
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.5, 0.5, 0.5),
        pose_variant="stable",
    )


def build_mini_sd(shape: Architecture, tokenizer: Any) -> StableDiffusionPrior:
    """The untrained model; the text, pooled by attention, is added to the time embedding.

    So a view word reaches every layer, as the pose does in `mini-zero123`, and the U-Net's call is Stable Diffusion's.
    """
    from transformers import CLIPTextConfig, CLIPTextModel

    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.cross_width,
            intermediate_size=3 * shape.cross_width,
            num_hidden_layers=shape.text_layers,
            num_attention_heads=4,
            max_position_embeddings=tokenizer.model_max_length,
            projection_dim=shape.cross_width,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    return StableDiffusionPrior(
        unet=build_unet(shape, in_channels=4, addition_embed_type="text", addition_embed_type_num_heads=4),
        vae=build_autoencoder(shape.autoencoder_channels, shape.size),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        schedule=NoiseSchedule(prediction_type="v_prediction"),
    )
