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

from hash3d.files import write_json
from hash3d.model_files import read_configuration
from hash3d.tensors import to_device

from .latent_prior import LatentPrior
from .loading import OTHER_PROJECTIONS, PROJECTION, load_part
from .noise import Latents, NoiseSchedule, Timesteps
from .pose import PoseVariant, decide_pose_variant, pose_features


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
    """The parts of a Zero123 folder. `pose_variant` is the convention of its poses, `pose_reason` how it is known."""

    parts = LatentPrior.parts | {
        "image_encoder": ["transformers", "CLIPVisionModelWithProjection"],
        PROJECTION: ["zero123", "CLIPCameraProjection"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    pipeline: ClassVar[dict[str, Any]] = {"_class_name": "Zero123Pipeline"}
    encoders = ("image_encoder",)

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
        mean, std = (
            torch.cat([pixels.new_full((1, 1, 1, 1), value) for value in values], dim=1)  # No transfer to the device.
            for values in (self.pixel_mean, self.pixel_std)
        )
        with self.awake():
            encoded = self.image_encoder(pixel_values=((pixels - mean) / std).to(self.dtype))
        return encoded.last_hidden_state[:, 1:] if self.uses_patches else encoded.image_embeds[:, None]

    def condition(self, images: Float[Tensor, "B 3 S S"]) -> ImageCondition:
        """Encode reference images on white to tokens and latents."""
        latents = self.vae.encode(images.to(self.dtype)).latent_dist.mode()
        return ImageCondition(embeddings=self.embed(images), latents=latents)

    def make_inputs(
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
        given = {"encoder_hidden_states": tokens, "latents": condition.latents}
        if self.unet.config.class_embed_type == "projection":
            given["class_labels"] = to_device(pose_features(pose.float()), noisy)
        if keep is not None:
            mask = to_device(keep, noisy)
            given = {name: value * mask.view(-1, *[1] * (value.ndim - 1)) for name, value in given.items()}
        sample = torch.cat([noisy, given.pop("latents").to(noisy)], dim=1)
        given = {name: value.to(noisy) for name, value in given.items()}
        return {"sample": sample, "timestep": to_device(timesteps, noisy.device), **given}

    def make_guided_inputs(
        self, noisy: Latents, timesteps: Timesteps, condition: ImageCondition, pose: Float[Tensor, "B 4"]
    ) -> dict[str, Any]:
        """Return the U-Net's keyword arguments for the guidance pair: rows [conditional, unconditional views]."""
        embeddings, latents = torch.cat([condition.embeddings] * 2), torch.cat([condition.latents] * 2)
        twice = ImageCondition(embeddings=embeddings, latents=latents)
        keep = torch.cat([noisy.new_ones(len(noisy)), noisy.new_zeros(len(noisy))])
        return self.make_inputs(torch.cat([noisy] * 2), torch.cat([timesteps] * 2), twice, torch.cat([pose] * 2), keep)

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

        part = next((name for name in OTHER_PROJECTIONS if (folder / name).is_dir()), PROJECTION)
        camera_projection = load_part(CLIPCameraProjection, folder, part, dtype)
        stated = camera_projection.config.pose_variant
        variant, reason = decide_pose_variant(folder, option=pose_variant, stated=stated, name=name)
        mean, std = _read_pixel_statistics(folder / "feature_extractor" / "preprocessor_config.json")
        prior = cls(
            **cls._load_common(folder, dtype),
            image_encoder=load_part(CLIPVisionModelWithProjection, folder, "image_encoder", dtype),
            camera_projection=camera_projection,
            pixel_mean=mean,
            pixel_std=std,
            pose_variant=variant,
            pose_reason=reason,
        )
        return prior.to(device).eval()

    def _save_parts(self, folder: Path) -> None:
        """Write the subfolders, which state the pose convention."""
        self.image_encoder.save_pretrained(folder / "image_encoder")
        self.camera_projection.register_to_config(pose_variant=self.pose_variant)
        self.camera_projection.save_pretrained(folder / PROJECTION)
        size = dict.fromkeys(("height", "width"), self.image_encoder.config.image_size)
        pixels = {"image_mean": list(self.pixel_mean), "image_std": list(self.pixel_std), "size": size}
        config = {"image_processor_type": "CLIPImageProcessor", **pixels}
        write_json(folder / "feature_extractor" / "preprocessor_config.json", config)
        super()._save_parts(folder)


def _read_pixel_statistics(path: Path) -> tuple[Any, Any]:
    """Return the mean and the standard deviation of RGB that a feature extractor's configuration states."""
    config = read_configuration(path)
    found: list[Any] = [config.get(name) for name in ("image_mean", "image_std")]
    for values in found:
        if not (
            isinstance(values, list) and len(values) == 3 and all(isinstance(each, float | int) for each in values)
        ):
            raise ValueError(f"Expected three numbers for image_mean and image_std in {path}, but got {found}.")
    mean, std = (tuple(map(float, values)) for values in found)
    if min(std) <= 0:
        raise ValueError(f"Expected image_std above 0 in {path}, but got {std}.")
    return mean, std
