"""Novel views to judge a prior by: of held-out objects of the world, and of scanned objects."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from hash3d.diffusion.pose import PoseVariant, pose_numbers
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.evaluation.truth import load_truth
from hash3d.pictures import Framing, frame_picture, load_picture

from .autoencoder import to_images
from .sampling import sample_views
from .view_buffer import ELEVATION, orbit
from .world import Objects, render

INPUT = "input.png"
"""The picture of a scanned object that a method is given."""


@dataclass(frozen=True, kw_only=True)
class NovelViews:
    """V views that a prior is asked for. Pictures lie in [-1, 1], angles are in degrees and on the CPU."""

    inputs: Float[Tensor, "V 3 S S"]
    reference_elevation: Float[Tensor, " V"]
    """Of the inputs."""
    elevation: Float[Tensor, " V"]
    relative_azimuth: Float[Tensor, " V"]
    """Target minus input."""

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: slice) -> "NovelViews":
        return NovelViews(
            inputs=self.inputs[index],
            reference_elevation=self.reference_elevation[index],
            elevation=self.elevation[index],
            relative_azimuth=self.relative_azimuth[index],
        )

    def split(self, count: int) -> list["NovelViews"]:
        """Parts of at most `count` views."""
        return [self[slice(start, start + count)] for start in range(0, len(self), count)]

    @classmethod
    def concatenate(cls, parts: "list[NovelViews]") -> "NovelViews":
        """All views of all parts."""
        return cls(
            inputs=torch.cat([part.inputs for part in parts]),
            reference_elevation=torch.cat([part.reference_elevation for part in parts]),
            elevation=torch.cat([part.elevation for part in parts]),
            relative_azimuth=torch.cat([part.relative_azimuth for part in parts]),
        )

    def turned(self, degrees: float) -> "NovelViews":
        """The views that lie `degrees` further round."""
        return replace(self, relative_azimuth=self.relative_azimuth + degrees)

    def pose(self, variant: PoseVariant) -> Float[Tensor, "V 4"]:
        """Their pose numbers."""
        return pose_numbers(
            elevation=self.elevation,
            relative_azimuth=self.relative_azimuth,
            relative_radius=torch.zeros_like(self.elevation),
            reference_elevation=self.reference_elevation,
            variant=variant,
        )


@dataclass(frozen=True, kw_only=True)
class RelativePose:
    """From the elevation of the input to another, and round by an azimuth; degrees."""

    reference_elevation: float = 15.0
    elevation: float = 15.0
    azimuth: float = 0.0

    def __str__(self) -> str:
        if self.elevation == self.reference_elevation:
            return f"azimuth {self.azimuth:g}"
        rise = f"elevation {self.reference_elevation:g} to {self.elevation:g}"
        return rise if self.azimuth == 0 else f"azimuth {self.azimuth:g}, {rise}"


def view(
    objects: Objects, azimuth: float | Float[Tensor, " V"], elevation: float | Float[Tensor, " V"], size: int
) -> Float[Tensor, "V 3 S S"]:
    """One view of each object, in [-1, 1]."""
    angles = [torch.as_tensor(angle, dtype=torch.float32).expand(len(objects)) for angle in (elevation, azimuth)]
    return to_images(render(objects, orbit(angles[0], angles[1], size)))


def held_out_views(objects: Objects, pose: RelativePose, size: int) -> tuple[NovelViews, Float[Tensor, "V 3 S S"]]:
    """One novel view of each object, the input seen from azimuth 0; and the true views."""
    angles = torch.ones(len(objects))
    views = NovelViews(
        inputs=view(objects, 0.0, pose.reference_elevation, size),
        reference_elevation=pose.reference_elevation * angles,
        elevation=pose.elevation * angles,
        relative_azimuth=pose.azimuth * angles,
    )
    return views, view(objects, pose.azimuth, pose.elevation, size)


def random_pairs(objects: Objects, size: int, seed: int) -> tuple[NovelViews, Float[Tensor, "V 3 S S"]]:
    """One pair of views of each object, uniform over the angles that the priors are trained on; and the true views."""
    generator = torch.Generator().manual_seed(seed)
    first, second, below, above = torch.rand(4, len(objects), generator=generator)
    reference_elevation, elevation = (ELEVATION[0] + (ELEVATION[1] - ELEVATION[0]) * each for each in (below, above))
    views = NovelViews(
        inputs=view(objects, 360 * first, reference_elevation, size),
        reference_elevation=reference_elevation,
        elevation=elevation,
        relative_azimuth=360 * (second - first),
    )
    return views, view(objects, 360 * second, elevation, size)


def framed_input(path: Path, size: int, framing: Framing) -> Float[Tensor, "3 S S"]:
    """A picture file on white, in [-1, 1]."""
    return frame_picture(load_picture(path), size, framing).color_on_white.permute(2, 0, 1) * 2 - 1


def scanned_views(folder: Path, size: int) -> tuple[NovelViews, Float[Tensor, "V 3 S S"]]:
    """The true views of one scanned object, reduced by area to `size` pixels, asked for of its `input.png`."""
    truth = load_truth(folder)
    count = len(truth.cameras)
    views = NovelViews(
        inputs=framed_input(folder / INPUT, size, "keep").expand(count, -1, -1, -1),
        reference_elevation=torch.full((count,), truth.reference_elevation),
        elevation=truth.cameras.elevation,
        relative_azimuth=truth.cameras.azimuth,
    )
    return views, F.interpolate(truth.images.permute(0, 3, 1, 2), (size, size), mode="area") * 2 - 1


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """How novel views are sampled: DDIM steps, the seed of the noise, and views at a time."""

    num_steps: int
    seed: int
    batch_size: int

    def sample(self, prior: Zero123Prior, views: NovelViews, scale: float) -> Float[Tensor, "V 3 S S"]:
        """The prior's guesses at guidance `scale`."""
        parts = [
            sample_views(
                prior, part.inputs.to(prior.device), part.pose(prior.pose_variant), guidance_scale=scale,
                num_steps=self.num_steps, seed=self.seed,
            )
            for part in views.split(self.batch_size)
        ]  # fmt: skip
        return torch.cat(parts)

    @torch.no_grad()
    def reconstruct(self, prior: Zero123Prior, truth: Float[Tensor, "V 3 S S"]) -> Float[Tensor, "V 3 S S"]:
        """What the prior's autoencoder leaves of the true views."""
        parts = truth.to(prior.device).split(self.batch_size)
        return torch.cat([prior.decode(prior.encode(part)).clamp(-1, 1) for part in parts])
