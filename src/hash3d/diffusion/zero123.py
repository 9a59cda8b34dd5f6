"""Zero123 (Liu et al. 2023): a diffusion model of a view, given one image and a relative pose.

The conventions are those of the diffusers folders `zero123-xl` and `stable-zero123`. The embedded prior differs as its
configuration states: the image encoder gives one token for each patch, not one for the image, and the pose also reaches
the U-Net as a class embedding.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import register_to_config
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.strangers import read_configuration
from hash3d.transfer import to_device

from .latent_prior import LatentPrior
from .loading import load_part, write_json
from .noise import Latents, NoiseSchedule, Timesteps
from .pose import PROJECTION, PoseVariant, decide_pose_variant, pose_features


class CLIPCameraProjection(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Map [image embedding, pose numbers] linearly to the U-Net's cross-attention tokens.

    `tokens`: "pooled", one token from the encoder's projected embedding, as in the published folders; or "patches",
    one token for each patch of the encoder's last hidden state.
    """

    @register_to_config
    def __init__(
        self,
        embedding_dim: int = 768,
        additional_embeddings: int = 4,
        output_dim: int | None = None,
        tokens: str = "pooled",
        pose_variant: str | None = None,
    ) -> None:
        super().__init__()
        self.proj = nn.Linear(embedding_dim + additional_embeddings, output_dim or embedding_dim)

    def forward(self, embeddings: Float[Tensor, "B T D"], pose: Float[Tensor, "B 4"]) -> Float[Tensor, "B T E"]:
        """Append the pose to every token and project."""
        poses = pose[:, None].expand(-1, embeddings.shape[1], -1).to(embeddings)
        return self.proj(torch.cat([embeddings, poses], dim=-1))


@dataclass(frozen=True, kw_only=True)
class ImageCondition:
    """The encoded reference images."""

    embeddings: Float[Tensor, "B T D"]
    latents: Float[Tensor, "B 4 h w"]
    """The posterior mode, not scaled: the convention of the Zero123 training."""

    def expand(self, count: int) -> "ImageCondition":
        """Repeat one reference image for `count` views."""
        embeddings, latents = self.embeddings.expand(count, -1, -1), self.latents.expand(count, -1, -1, -1)
        return ImageCondition(embeddings=embeddings, latents=latents)


class Zero123Prior(LatentPrior):
    """The parts of a Zero123 folder. Images are [B, 3, S, S] in [-1, 1], latents [B, 4, h, w].

    `pose_variant` is the convention of its pose numbers, `pose_reason` how it is known.
    """

    parts = LatentPrior.parts | {
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        PROJECTION: ["zero123", "CLIPCameraProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    pipeline: ClassVar[dict[str, Any]] = {"_class_name": "Zero123Pipeline"}

    def __init__(
        self,
        *,
        unet: UNet2DConditionModel,
        vae: AutoencoderKL,
        image_encoder: Any,
        camera_projection: CLIPCameraProjection,
        schedule: NoiseSchedule,
        pixel_mean: tuple[float, float, float],
        pixel_std: tuple[float, float, float],
        pose_variant: PoseVariant,
        pose_reason: str = "given",
    ) -> None:
        super().__init__(unet=unet, vae=vae, schedule=schedule)
        self.image_encoder: Any = image_encoder
        self.camera_projection: Any = camera_projection
        self.pose_variant, self.pose_reason = pose_variant, pose_reason
        self.pixel_mean, self.pixel_std = pixel_mean, pixel_std
        projection, encoder = self.camera_projection.proj, self.image_encoder.config
        width = encoder.hidden_size if self.uses_patches else encoder.projection_dim
        self._expect(
            "Zero123",
            {
                "unet in_channels": (self.unet.config.in_channels, 8),
                "unet cross_attention_dim": (self.unet.config.cross_attention_dim, projection.out_features),
                "image encoder width plus four pose numbers": (width + 4, projection.in_features),
            },
        )

    @property
    def uses_patches(self) -> bool:
        """Whether each patch of the reference image is a token."""
        return bool(self.camera_projection.config.tokens == "patches")

    def embed(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B T D"]:
        """Encode reference images on white to the image encoder's tokens."""
        size = self.image_encoder.config.image_size
        pixels = images.float()
        if images.shape[-1] != size:
            pixels = F.interpolate(pixels, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)
        pixels = pixels * 0.5 + 0.5
        mean, std = (torch.tensor(values).view(1, 3, 1, 1).to(pixels) for values in (self.pixel_mean, self.pixel_std))
        encoded = self.image_encoder(pixel_values=((pixels - mean) / std).to(self.dtype))
        return encoded.last_hidden_state[:, 1:] if self.uses_patches else encoded.image_embeds[:, None]

    def condition(self, images: Float[Tensor, "B 3 S S"]) -> ImageCondition:
        """Encode reference images on white to tokens and latents."""
        latents = self.vae.encode(images.to(self.dtype)).latent_dist.mode()
        return ImageCondition(embeddings=self.embed(images), latents=latents)

    def unet_inputs(
        self,
        noisy: Latents,
        timesteps: Timesteps,
        condition: ImageCondition,
        pose: Float[Tensor, "B 4"],
        keep: Float[Tensor, " B"] | None = None,
    ) -> dict[str, Any]:
        """Return the keyword arguments of one conditional U-Net call.

        `keep` is 0 for a view whose condition is dropped (zero tokens, zero image latents, zero class labels), else 1.
        """
        tokens = self.camera_projection(condition.embeddings, to_device(pose, condition.embeddings))
        labels, image_latents = to_device(pose_features(pose.float()), noisy), condition.latents
        if keep is not None:
            mask = to_device(keep, noisy)[:, None]
            labels, tokens, image_latents = labels * mask, tokens * mask[:, None], image_latents * mask[:, None, None]
        inputs = {
            "sample": torch.cat([noisy, image_latents.to(noisy)], dim=1),
            "timestep": to_device(timesteps, noisy.device),
            "encoder_hidden_states": tokens.to(noisy),
        }
        return inputs | ({"class_labels": labels} if self.unet.config.class_embed_type == "projection" else {})

    def guided_inputs(
        self, noisy: Latents, timesteps: Timesteps, condition: ImageCondition, pose: Float[Tensor, "B 4"]
    ) -> dict[str, Any]:
        """Return the U-Net's keyword arguments for the guidance pair: rows [conditional, unconditional views]."""
        embeddings, latents = torch.cat([condition.embeddings] * 2), torch.cat([condition.latents] * 2)
        twice = ImageCondition(embeddings=embeddings, latents=latents)
        keep = torch.cat([torch.ones(len(noisy)), torch.zeros(len(noisy))])
        return self.unet_inputs(torch.cat([noisy] * 2), torch.cat([timesteps] * 2), twice, torch.cat([pose] * 2), keep)

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        pose_variant: PoseVariant | None = None,
        name: str | None = None,
    ) -> "Zero123Prior":
        """Read a diffusers folder.

        `pose_variant` and `name`, which the folder was asked for by, are `decide_pose_variant`'s option and name.
        """
        from transformers import CLIPVisionModelWithProjection

        camera_projection = load_part(CLIPCameraProjection, folder, PROJECTION, dtype)
        variant, reason = decide_pose_variant(
            folder, option=pose_variant, stated=camera_projection.config.pose_variant, name=name
        )
        pixels = read_configuration(folder / "feature_extractor" / "preprocessor_config.json")
        prior = cls(
            **cls._load_common(folder, dtype),
            image_encoder=load_part(CLIPVisionModelWithProjection, folder, "image_encoder", dtype),
            camera_projection=camera_projection,
            pixel_mean=_three_numbers(pixels, "image_mean", folder),
            pixel_std=_three_numbers(pixels, "image_std", folder),
            pose_variant=variant,
            pose_reason=reason,
        )
        return prior.to(device).eval()

    def save(self, folder: Path) -> None:
        """Write the diffusers folder, which states its pose convention."""
        self.image_encoder.save_pretrained(folder / "image_encoder")
        self.camera_projection.register_to_config(pose_variant=self.pose_variant)
        self.camera_projection.save_pretrained(folder / PROJECTION)
        size = self.image_encoder.config.image_size
        pixels = {
            "image_processor_type": "CLIPImageProcessor",
            "size": {"height": size, "width": size},
            "image_mean": list(self.pixel_mean),
            "image_std": list(self.pixel_std),
        }
        write_json(folder / "feature_extractor" / "preprocessor_config.json", pixels)
        super().save(folder)


def _three_numbers(config: dict[str, Any], name: str, folder: Path) -> tuple[float, float, float]:
    """Return a feature extractor's pixel mean or standard deviation."""
    values = config.get(name)
    if not (isinstance(values, list) and len(values) == 3 and all(isinstance(value, float | int) for value in values)):
        raise ValueError(f"Expected three numbers {name} in {folder}/feature_extractor/preprocessor_config.json.")
    if name == "image_std" and min(values) <= 0:
        raise ValueError(f"Expected image_std above 0 in {folder}/feature_extractor, but got {values}.")
    red, green, blue = values
    return float(red), float(green), float(blue)
