"""Small models of the real classes, in the layouts of the published priors."""

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from hash3d.diffusion.noise import NoiseSchedule
from hash3d.diffusion.pose import NUM_POSE_FEATURES
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior, StableDiffusionXLPrior
from hash3d.diffusion.zero123 import CLIPCameraProjection, Zero123Prior
from prior_training.tokenizer import build_tokenizer

DOWN = ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D")
UP = ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D")
VIEW = {"elevation": 5.0, "azimuth": 10.0, "radius": 1.5, "timestep": 400}
"""Of a call."""


def tiny_unet(**changes) -> UNet2DConditionModel:
    """Stable Diffusion's structure (12 skips) with narrow layers."""
    torch.manual_seed(0)
    settings = {
        "sample_size": 16,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (8, 16, 32, 32),
        "layers_per_block": 2,
        "down_block_types": DOWN,
        "up_block_types": UP,
        "cross_attention_dim": 12,
        "attention_head_dim": 4,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**{**settings, **changes}).eval()


def small_unet(**changes) -> UNet2DConditionModel:
    """Two blocks a side, of one layer each (4 skips): a pass takes a third of the time of `tiny_unet`'s."""
    blocks = {"block_out_channels": (8, 16), "down_block_types": DOWN[2:], "up_block_types": UP[:2]}
    return tiny_unet(**{"layers_per_block": 1, **blocks, **changes})


UNETS = {
    "stable_diffusion_15": {},
    "stable_diffusion_21": {
        "use_linear_projection": True,
        "attention_head_dim": (2, 4, 8, 8),
        "cross_attention_dim": 16,
    },
    "zero123": {"in_channels": 8},
    "mini": {
        "in_channels": 8,
        "block_out_channels": (8, 16, 24),
        "down_block_types": DOWN[:3],
        "up_block_types": UP[1:],
        "class_embed_type": "projection",
        "projection_class_embeddings_input_dim": NUM_POSE_FEATURES,
    },
    "mini_text": {
        "block_out_channels": (8, 16, 24),
        "down_block_types": DOWN[:3],
        "up_block_types": UP[1:],
        "addition_embed_type": "text",
        "addition_embed_type_num_heads": 4,
    },
}


def unet_inputs(unet: UNet2DConditionModel, views: int = 1, branches: int = 2, seed: int = 0) -> dict:
    """Random inputs of a guidance call."""
    generator = torch.Generator().manual_seed(seed)
    rows, size = views * branches, unet.config.sample_size
    inputs = {
        "sample": torch.randn(rows, unet.config.in_channels, size, size, generator=generator),
        "timestep": torch.full((rows,), 400),
        "encoder_hidden_states": torch.randn(rows, 5, unet.config.cross_attention_dim, generator=generator),
    }
    if unet.config.class_embed_type == "projection":
        inputs["class_labels"] = torch.randn(rows, NUM_POSE_FEATURES, generator=generator)
    return inputs


def alike(unet: UNet2DConditionModel, **more) -> dict:
    """Inputs whose two branches have the same noisy latents."""
    inputs = unet_inputs(unet, **more)
    inputs["sample"][1] = inputs["sample"][0]
    return inputs


class LoRA(torch.nn.Module):
    """A linear layer and a trained one of low rank, which starts at zero."""

    def __init__(self, base):
        super().__init__()
        self.base, self.scale = base, 1.0
        self.down, self.up = torch.nn.Linear(base.in_features, 2), torch.nn.Linear(2, base.out_features)
        torch.nn.init.zeros_(self.up.weight)

    def forward(self, x):
        return self.base(x) + self.scale * self.up(self.down(x))

    def step(self):
        """As an optimizer's."""
        for weight in (*self.down.parameters(), *self.up.parameters()):
            weight.add_(0.01)


def predict(unet: UNet2DConditionModel, cache, inputs: dict, **view) -> torch.Tensor:
    """The prediction of a call within `VIEW`, or another view."""
    with torch.no_grad(), cache.view(**{**VIEW, **view}):
        return unet(**inputs).sample


def tiny_autoencoder() -> AutoencoderKL:
    """Of 32x32 pixels and 8x8 latents."""
    return AutoencoderKL(
        block_out_channels=(8, 8, 8),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        latent_channels=4,
        norm_num_groups=4,
        sample_size=32,
        scaling_factor=0.5,
    )


def tiny_zero123(pose_variant: str = "stable", patches: bool = True) -> Zero123Prior:
    """A Zero123 of 32x32 pixels in the layout of the embedded prior, or of the published folders."""
    torch.manual_seed(1)
    pose_class = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": NUM_POSE_FEATURES}
    unet = small_unet(sample_size=8, in_channels=8, layers_per_block=2, **(pose_class if patches else {}))
    encoder = CLIPVisionModelWithProjection(
        CLIPVisionConfig(
            hidden_size=16,
            intermediate_size=32,
            projection_dim=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            image_size=32,
            patch_size=16,
        )
    )
    projection = CLIPCameraProjection(
        embedding_dim=16 if patches else 8,
        output_dim=12,
        tokens="patches" if patches else "pooled",
        pose_variant=pose_variant if patches else None,
    )
    return Zero123Prior(
        unet=unet,
        vae=tiny_autoencoder(),
        image_encoder=encoder,
        camera_projection=projection,
        schedule=NoiseSchedule(prediction_type="v_prediction" if patches else "epsilon"),
        pixel_mean=(0.5, 0.5, 0.5),
        pixel_std=(0.5, 0.5, 0.5),
        pose_variant=pose_variant,
    ).eval()


def tiny_text_encoder(tokenizer, kind=CLIPTextModel, width=12, layers=1, **more):
    """An encoder of CLIP that knows a tokenizer's words."""
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    sizes = {"hidden_size": width, "intermediate_size": 24, "num_hidden_layers": layers, "num_attention_heads": 2}
    return kind(CLIPTextConfig(vocab_size=len(tokenizer), **{**sizes, **ids, **more}))


def tiny_stable_diffusion(prediction_type: str = "epsilon", **unet_changes) -> StableDiffusionPrior:
    """A Stable Diffusion of 32x32 pixels that knows four words."""
    torch.manual_seed(1)
    tokenizer = build_tokenizer(["a", "mug", "photo", "red"])
    text_encoder = tiny_text_encoder(tokenizer)
    return StableDiffusionPrior(
        unet=small_unet(sample_size=8, **unet_changes),
        vae=tiny_autoencoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        schedule=NoiseSchedule(prediction_type=prediction_type),
    ).eval()


def tiny_stable_diffusion_xl() -> StableDiffusionXLPrior:
    """Stable Diffusion XL's structure: two encoders, three levels of 0, 2 and 3 transformer layers, sizes in time."""
    torch.manual_seed(1)
    tokenizers = [build_tokenizer(["a", "mug", "photo", "red"]) for _ in range(2)]
    tokenizers[1].pad_token, one = "!", {"num_attention_heads": 1}
    unet = tiny_unet(
        sample_size=8,
        block_out_channels=(8, 16, 32),
        down_block_types=(DOWN[-1], *DOWN[:2]),
        up_block_types=(*UP[-2:], UP[0]),
        transformer_layers_per_block=(1, 2, 3),
        cross_attention_dim=12 + 16,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=10 + 6 * 8,
    )
    return StableDiffusionXLPrior(
        unet=unet,
        vae=tiny_autoencoder(),
        text_encoder=tiny_text_encoder(tokenizers[0], layers=2, **one),
        tokenizer=tokenizers[0],
        text_encoder_2=tiny_text_encoder(
            tokenizers[1], CLIPTextModelWithProjection, 16, layers=3, projection_dim=10, hidden_act="gelu", **one
        ),
        tokenizer_2=tokenizers[1],
        schedule=NoiseSchedule(),
    ).eval()
