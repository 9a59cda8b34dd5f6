"""Measures a prior on objects it was never trained on, and draws contact sheets.

python -m hash3d.priors.evaluate --prior FOLDER --out FOLDER [--pictures FOLDER]
"""

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from hash3d.diffusion.pose import pose_numbers
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.priors.autoencoder import to_images
from hash3d.priors.pool import orbit
from hash3d.priors.sampling import sample_views
from hash3d.priors.world import Objects, draw_objects, render
from hash3d.priors.world.catalogue import HELD_OUT

logger = logging.getLogger(__name__)

ELEVATION = 15.0
AZIMUTHS = (30.0, 90.0, 180.0)
SHEET_AZIMUTHS = (0.0, 45.0, 90.0, 135.0, 180.0, 225.0, 270.0, 315.0)


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """What is measured."""

    prior: Path
    """Folder of the prior."""
    out: Path
    """Folder for `evaluation.json` and the contact sheets."""
    num_objects: int = 200
    """Held-out objects."""
    guidance_scales: tuple[float, ...] = (1.0, 1.5, 2.0, 3.0)
    """Each is measured."""
    num_steps: int = 40
    """DDIM steps."""
    pictures: Path | None = None
    """Folder of pictures with alpha, to draw novel views of (elevation of the pictures: 15 degrees)."""
    seed: int = 0
    """Of the noise."""


def psnr(image: Float[Tensor, "B 3 H W"], truth: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
    """In dB, for pictures in [-1, 1]; 60 at most."""
    return -10 * ((image - truth) / 2).square().mean((1, 2, 3)).clamp(min=1e-6).log10()


def silhouette(image: Float[Tensor, "B 3 H W"]) -> Bool[Tensor, "B H W"]:
    """Pixels that differ from white by more than 0.05 of the range in some channel."""
    return ((1 - image) / 2).amax(1) > 0.05


def overlap(image: Float[Tensor, "B 3 H W"], truth: Float[Tensor, "B 3 H W"]) -> Float[Tensor, " B"]:
    """Intersection over union of the silhouettes."""
    first, second = silhouette(image), silhouette(truth)
    return (first & second).sum((1, 2)) / (first | second).sum((1, 2)).clamp(min=1)


def pose_towards(
    prior: Zero123Prior, azimuth: Tensor, elevation: Tensor, reference_elevation: float = ELEVATION
) -> Float[Tensor, "B 4"]:
    """Pose numbers of views of a picture taken from `reference_elevation`; degrees."""
    return pose_numbers(
        elevation=elevation.float(),
        relative_azimuth=azimuth.float(),
        relative_radius=torch.zeros_like(azimuth),
        reference_elevation=reference_elevation,
        variant=prior.pose_variant,
    )


def view(objects: Objects, azimuth: float, elevation: float, size: int) -> Float[Tensor, "B 3 S S"]:
    """One view of each object, in [-1, 1]."""
    angles = torch.full((len(objects),), azimuth), torch.full((len(objects),), elevation)
    return to_images(render(objects, orbit(angles[1], angles[0], size)))


def asymmetric(objects: Objects, size: int) -> Bool[Tensor, " B"]:
    """Objects that look different from the side and from behind: copying the front gives less than 20 dB for both."""
    front = view(objects, 0.0, ELEVATION, size)
    side, back = (psnr(front, view(objects, azimuth, ELEVATION, size)) for azimuth in (90.0, 180.0))
    return (side < 20) & (back < 20)


def _row(method: str, azimuth: float, image: Tensor, truth: Tensor, chosen: Tensor) -> list[dict[str, float | str]]:
    """Scores over all objects and over the chosen ones."""
    scores, shapes = psnr(image, truth), overlap(image, truth)
    return [
        {
            "objects": name,
            "method": method,
            "azimuth": azimuth,
            "psnr_median": float(scores[which].median()),
            "psnr_mean": float(scores[which].mean()),
            "iou_mean": float(shapes[which].mean()),
        }
        for name, which in (("all", torch.ones_like(chosen)), ("asymmetric", chosen))
    ]


def _in_parts(function: Callable[[Tensor, Tensor], Tensor], images: Tensor, poses: Tensor) -> Tensor:
    size = 200 if images.is_cuda else 8
    return torch.cat([function(*part) for part in zip(images.split(size), poses.split(size), strict=True)])


def measure(
    prior: Zero123Prior, config: EvaluateConfig, sample: Callable[[Tensor, Tensor, float], Tensor]
) -> tuple[list[dict[str, float | str]], UInt8[Tensor, "H W 3"]]:
    """Scores of copying, of the autoencoder and of the prior, and a contact sheet (input, then truth and sample)."""
    size, device = prior.image_size, prior.device
    objects = draw_objects(HELD_OUT + 1000 + torch.arange(config.num_objects, device=device))
    front, chosen = view(objects, 0.0, ELEVATION, size), asymmetric(objects, size)
    rows: list[dict[str, float | str]] = [{"asymmetric": int(chosen.sum()), "objects": config.num_objects}]
    columns = [front[:16]]
    middle = config.guidance_scales[len(config.guidance_scales) // 2]
    for azimuth in AZIMUTHS:
        truth = view(objects, azimuth, ELEVATION, size)
        rows += _row("copying the input", azimuth, front, truth, chosen)
        with torch.no_grad():
            ceiling = _in_parts(lambda images, _: prior.decode(prior.encode(images)).clamp(-1, 1), truth, truth)
        rows += _row("autoencoder of the truth", azimuth, ceiling, truth, chosen)
        angles = torch.full((config.num_objects,), azimuth)
        poses = pose_towards(prior, angles, torch.full_like(angles, ELEVATION))
        for scale in config.guidance_scales:
            image = _in_parts(lambda images, some, scale=scale: sample(images, some, scale), front, poses)  # type: ignore[misc]
            rows += _row(f"prior, guidance {scale:g}", azimuth, image, truth, chosen)
            columns += [truth[:16], image[:16]] if scale == middle else []
    return rows, contact_sheet(torch.stack(columns))


def contact_sheet(rows: Float[Tensor, "R C 3 S S"]) -> UInt8[Tensor, "H W 3"]:
    """Pictures in [-1, 1] as one picture of R rows and C columns."""
    count, columns, _, height, width = rows.shape
    grid = rows.permute(0, 3, 1, 4, 2).reshape(count * height, columns * width, 3)
    return ((grid.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu()


def load_picture(path: Path, size: int) -> Float[Tensor, "3 S S"]:
    """A picture on white, in [-1, 1]."""
    with Image.open(path) as opened:
        picture = opened.convert("RGBA")
    white = Image.new("RGBA", picture.size, "white")
    white.alpha_composite(picture)
    pixels = np.asarray(white.convert("RGB").resize((size, size), Image.Resampling.LANCZOS), dtype=np.float32)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1) / 127.5 - 1


def picture_sheet(
    prior: Zero123Prior, paths: list[Path], sample: Callable[[Tensor, Tensor, float], Tensor], scale: float
) -> UInt8[Tensor, "H W 3"]:
    """Each picture, then its views all round."""
    images = torch.stack([load_picture(path, prior.image_size) for path in paths]).to(prior.device)
    columns = [images]
    for azimuth in SHEET_AZIMUTHS:
        angles = torch.full((len(paths),), azimuth)
        poses = pose_towards(prior, angles, torch.full_like(angles, ELEVATION))
        columns.append(_in_parts(lambda some, pose: sample(some, pose, scale), images, poses))
    return contact_sheet(torch.stack(columns, dim=1))


def evaluate(config: EvaluateConfig) -> list[dict[str, float | str]]:
    """Writes the scores and the sheets; returns the scores."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prior = Zero123Prior.load(config.prior, device=device)

    def sample(images: Tensor, poses: Tensor, scale: float) -> Tensor:
        return sample_views(prior, images, poses, guidance_scale=scale, num_steps=config.num_steps, seed=config.seed)

    config.out.mkdir(parents=True, exist_ok=True)
    rows, sheet = measure(prior, config, sample)
    (config.out / "evaluation.json").write_text(json.dumps(rows, indent=1) + "\n")
    Image.fromarray(sheet.numpy()).save(config.out / "held_out.png")
    for row in rows:
        logger.info("%s", row)
    if config.pictures is not None:
        paths = sorted(config.pictures.glob("*.png"))
        for scale in config.guidance_scales[1:]:
            pixels = picture_sheet(prior, paths, sample, scale)
            Image.fromarray(pixels.numpy()).save(config.out / f"pictures_{scale:g}.png")
    return rows


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    evaluate(tyro.cli(EvaluateConfig, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
