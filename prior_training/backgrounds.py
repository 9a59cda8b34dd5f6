"""Plain backgrounds for rendered views."""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from .world.words import COLORS, color_names

WHITE = -1
"""Number of the background that no prompt mentions: white itself. The others are indices into COLORS."""


def over_background(views: UInt8[Tensor, "B H W 4"], backgrounds: Float[Tensor, "B 3"]) -> UInt8[Tensor, "B H W 4"]:
    """Views, whose colours lie on white, on plain backgrounds in [0, 1] instead; the coverage stays."""
    plain = backgrounds[:, None, None].to(views.device, non_blocking=True)
    uncovered = 1 - views[..., 3:].float() / 255
    colors = views[..., :3].float() + uncovered * (plain - 1) * 255
    return torch.cat([colors.round().clamp(0, 255).to(torch.uint8), views[..., 3:]], dim=-1)


class BackgroundColors:
    """Random plain colours by name."""

    def __init__(self, seed: int = 0, count: int = 1 << 17) -> None:
        colors = torch.rand(count, 3, generator=torch.Generator().manual_seed(seed))
        names = color_names(colors)
        self._by_name = [colors[names == index] for index in range(len(COLORS))]
        assert all(len(each) > 0 for each in self._by_name)

    def sample(self, names: Int[Tensor, " B"], generator: torch.Generator) -> Float[Tensor, "B 3"]:
        """An RGB colour inside each named one; WHITE is (1, 1, 1)."""
        sampled = torch.rand(len(names), generator=generator)
        colors = torch.ones(len(names), 3)
        for index, each in enumerate(self._by_name):
            here = names == index
            colors[here] = each[(sampled[here] * len(each)).long()]
        return colors


def sample_background_names(count: int, white: float, generator: torch.Generator) -> Int[Tensor, " B"]:
    """WHITE with the share `white`, else any of COLORS."""
    names = torch.randint(len(COLORS), (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < white, WHITE, names)
