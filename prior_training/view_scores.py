"""Scores of novel views, and their cells in a table."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hash3d.evaluation.metrics import psnr, silhouette_iou, ssim

MOST_PSNR = 60.0
"""In dB; equal pictures count as this, so that means are finite."""
SILHOUETTE = 0.05
"""A pixel belongs to the object if it differs from white by more than this share of the range in some channel."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Of V pictures."""

    psnr: Float[Tensor, " V"]
    """In dB, at most `MOST_PSNR`."""
    ssim: Float[Tensor, " V"]
    iou: Float[Tensor, " V"]
    """Of the silhouettes."""

    def summary(self, chosen: Bool[Tensor, " V"] | None = None) -> dict[str, float]:
        """Means and medians over the chosen pictures, or over all of them; rounded to a ten-thousandth."""
        which = torch.ones_like(self.psnr, dtype=torch.bool) if chosen is None else chosen
        values = {
            "psnr_median": self.psnr[which].median(),
            "psnr_mean": self.psnr[which].mean(),
            "ssim_mean": self.ssim[which].mean(),
            "iou_mean": self.iou[which].mean(),
        }
        return {name: round(float(value), 4) for name, value in values.items()}


def to_unit(images: Float[Tensor, "V 3 S S"]) -> Float[Tensor, "V S S 3"]:
    """Pictures in [-1, 1] as pictures in [0, 1] with the channels last, on the CPU."""
    return ((images.detach().float().clamp(-1, 1) + 1) / 2).permute(0, 2, 3, 1).cpu()


def capped_psnr(image: Float[Tensor, "S S 3"], truth: Float[Tensor, "S S 3"]) -> float:
    """PSNR in dB, at most `MOST_PSNR`."""
    return min(psnr(image, truth), MOST_PSNR)


def score(images: Float[Tensor, "V 3 S S"], truth: Float[Tensor, "V 3 S S"]) -> Scores:
    """Each picture against the true one; both in [-1, 1] on white."""

    def one(pair: tuple[Tensor, Tensor]) -> tuple[float, float, float]:
        image, true_image = pair
        inside, truly_inside = (1 - image).amax(-1), (1 - true_image).amax(-1)
        return (
            capped_psnr(image, true_image),
            ssim(image, true_image),
            silhouette_iou(inside, truly_inside, SILHOUETTE),
        )

    with ThreadPoolExecutor() as threads:
        rows = list(threads.map(one, zip(to_unit(images), to_unit(truth), strict=True)))
    columns = torch.tensor(rows).T
    return Scores(psnr=columns[0], ssim=columns[1], iou=columns[2])


def cells(summary: dict[str, float] | None) -> list[str]:
    """Median and mean PSNR, SSIM and IoU of a summary; empty cells for none."""
    if summary is None:
        return [""] * 4
    decibels = [f"{summary[name]:.1f}" for name in ("psnr_median", "psnr_mean")]
    return decibels + [f"{summary[name]:.3f}" for name in ("ssim_mean", "iou_mean")]
