"""The training pictures that are nearest to given pictures, which tell whether a prior generates or copies."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from .autoencoder import to_images
from .matcher_views import sample_upright
from .text_buffer import sample_elevation
from .view_buffer import orbit
from .world import Objects, render

SIDE = 32
"""Pictures are compared after averaging to this many pixels a side."""


@dataclass(kw_only=True)
class TrainingViews:
    """One view of each of the first `num_views` objects of training, on white, seen from where training sees objects.

    A view is known by its number.
    """

    num_views: int
    size: int
    device: torch.device
    seed: int = 0
    objects: Objects = field(init=False)
    elevation: Tensor = field(init=False)
    azimuth: Tensor = field(init=False)

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        self.objects = sample_upright(0, self.num_views, self.device)
        self.elevation = sample_elevation((self.num_views,), generator)
        self.azimuth = 360 * torch.rand(self.num_views, generator=generator)

    def render(self, numbers: Int[Tensor, " B"]) -> Float[Tensor, "B 3 S S"]:
        """Pictures in [-1, 1]."""
        places = numbers.cpu()
        cameras = orbit(self.elevation[places], self.azimuth[places], self.size)
        return to_images(render(self.objects[numbers.to(self.device)], cameras))

    def in_parts(self, chunk: int) -> Iterable[tuple[Tensor, Tensor]]:
        """All numbers and their pictures, `chunk` at a time."""
        for numbers in torch.arange(self.num_views).split(chunk):
            yield numbers.to(self.device), self.render(numbers)


def thumbnails(pictures: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B D"]:
    """Pictures in [-1, 1] averaged to SIDE x SIDE, as rows whose distances are RMS differences in [0, 1]."""
    small = F.adaptive_avg_pool2d(pictures.float(), SIDE).flatten(1)
    return small / (2 * math.sqrt(small.shape[1]))


def nearest(
    pictures: Float[Tensor, "B 3 S S"], parts: Iterable[tuple[Tensor, Tensor]], count: int
) -> tuple[Float[Tensor, "B K"], Int[Tensor, "B K"]]:
    """RMS differences (of a range of 1) and numbers of the `count` nearest of many pictures, the nearest first.

    `parts` yields numbers [C] and pictures [C, 3, S, S]; only the best are kept.
    """
    rows = thumbnails(pictures)
    distances = torch.full((len(rows), count), math.inf, device=rows.device)
    best = torch.full((len(rows), count), -1, device=rows.device)
    for numbers, others in parts:
        new = torch.cdist(rows, thumbnails(others).to(rows))
        distances, places = torch.cat([distances, new], dim=1).topk(count, largest=False)
        best = torch.cat([best, numbers.to(rows.device).expand(len(rows), -1)], dim=1).gather(1, places)
    return distances, best
