"""Trains `mini-zero123`, the embedded prior: one picture and a relative pose to a new view.

    python -m prior_training.mini_zero123 --out FOLDER
    torchrun --nproc-per-node 4 -m prior_training.mini_zero123 --out FOLDER

All but `--meshes` that it learns from is sampled and rendered while it runs. Several processes average their gradients.
"""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hash3d.diffusion.pose import pose_numbers
from hash3d.diffusion.zero123 import ImageCondition, Zero123Prior

from .architecture import build_mini_zero123
from .autoencoder import to_images
from .mesh_views import read_views
from .train_config import TrainConfig
from .training import Training
from .view_buffer import Pairs, ViewBuffer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Zero123TrainConfig(TrainConfig):
    """How the prior is trained."""

    meshes: Path | None = None
    """Views of `prior_training.mesh_views`, learned from beside the world."""
    mesh_share: float = 0.25
    """Share of the pairs that are theirs."""


class Zero123Training(Training[Zero123Prior, Pairs]):
    """Pairs of views; the first is the condition. The autoencoder is trained on white backgrounds."""

    config: Zero123TrainConfig

    noisiest = 0.5
    """Replay's targets are one step from there: the image and the pose alone say what is seen."""

    def load(self, folder: Path) -> Zero123Prior:
        """A folder of `mini-zero123`."""
        return Zero123Prior.load(folder)

    def build(self) -> Zero123Prior:
        """The untrained model."""
        return build_mini_zero123(self.config.architecture)

    def encoders(self) -> list[nn.Module]:
        """Of the picture, and of its tokens with the pose."""
        return [self.prior.image_encoder, self.prior.camera_projection]

    def buffer(self, **settings: Any) -> ViewBuffer:
        """Views of objects as they lie."""
        return ViewBuffer(**settings)

    def extend(self, buffer: ViewBuffer) -> None:
        """Adds the meshes' views, if there are any."""
        if self.config.meshes:
            buffer.keep(*read_views(self.config.meshes), share=self.config.mesh_share)

    def pose_of(self, pairs: Pairs) -> Float[Tensor, "B 4"]:
        """The pose numbers of pairs."""
        return pose_numbers(
            elevation=pairs.elevation,
            relative_azimuth=pairs.relative_azimuth,
            relative_radius=torch.zeros_like(pairs.elevation),
            reference_elevation=pairs.reference_elevation,
            variant=self.prior.pose_variant,
        )

    def inputs(
        self, batch: Pairs, noisy: Float[Tensor, "B 4 h w"], timesteps: Int[Tensor, " B"], keep: Bool[Tensor, " B"]
    ) -> dict[str, Any]:
        """Tokens, image latents and class labels are zero where the condition is dropped."""
        condition = ImageCondition(
            embeddings=self.prior.embed(to_images(batch.condition)), latents=batch.condition_latents.float()
        )
        return self.prior.make_inputs(noisy, timesteps, condition, self.pose_of(batch), keep.float())

    def variants(self, batch: Pairs) -> dict[str, Pairs]:
        """The right pose, and one with the azimuth 15 degrees off."""
        wrong = dataclasses.replace(batch, relative_azimuth=batch.relative_azimuth + 15.0)
        return {"held_out_loss": batch, "held_out_loss_15_degrees_off": wrong}


def train(config: Zero123TrainConfig) -> Path:
    """Trains a prior and returns its folder."""
    return Zero123Training(config).run()


def main(arguments: list[str] | None = None) -> Any:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return train(tyro.cli(Zero123TrainConfig, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
