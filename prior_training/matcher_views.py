"""Pictures to train the matcher on: views of upright objects with their labels, and the ways to spoil them."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hash3d.guidance.stable_diffusion import OVERHEAD, OVERHEAD_ELEVATION, VIEWS, view_index

from .matcher_network import Labels
from .text_buffer import ELEVATION
from .view_buffer import Table, orbit
from .world import Objects, render
from .world.objects import NONE
from .world.words import ROLES, color_names


def view_angles(
    views: Int[Tensor, " B"], generator: torch.Generator
) -> tuple[Float[Tensor, " B"], Float[Tensor, " B"]]:
    """Random elevations and azimuths (degrees) of cameras that see objects as `VIEWS[views[i]]`; on the CPU."""
    count = len(views)
    low, high = ELEVATION
    level = low + (OVERHEAD_ELEVATION - low) * torch.rand(count, generator=generator)
    above = high - (high - OVERHEAD_ELEVATION) * torch.rand(count, generator=generator)
    middles = torch.tensor([0.0, 90.0, 180.0, 0.0])[views]
    turned = torch.where(torch.rand(count, generator=generator) < 0.5, -middles, middles)
    near = turned + 90.0 * (torch.rand(count, generator=generator) - 0.5)
    anywhere = 360.0 * (torch.rand(count, generator=generator) - 0.5)
    overhead = views == OVERHEAD
    return torch.where(overhead, above, level), torch.where(overhead, anywhere, near)


def body_rgb(objects: Objects) -> Float[Tensor, "N 3"]:
    """The first colour of each object's body, the one that `describe` names."""
    body = ((objects.role == ROLES.index("body")) & (objects.kind != NONE)).int().argmax(1)
    return objects.colors[torch.arange(len(objects), device=body.device), body, 0]


def body_colors(objects: Objects) -> Int[Tensor, " N"]:
    """The name of each object's colour, an index into COLORS."""
    return color_names(body_rgb(objects))


def sample_upright(first: int, count: int, device: torch.device) -> Objects:
    """Objects `first`, `first + 1`, ... upright, their fronts at azimuth 0."""
    return Table(device, count, first, posed=False).to(str(device))


class LabelledViews:
    """`num_views` views of random objects of `objects`, with labels, on the objects' device.

    A quarter of the views has each view word. The angles come from a generator of `seed`.
    """

    def __init__(self, objects: Objects, num_views: int, size: int, seed: int) -> None:
        self.objects, self.num_views, self.size, self.device = objects, num_views, size, objects.kind.device
        self._generator = torch.Generator().manual_seed(seed)
        self._slot = 0
        self._pixels = torch.empty(num_views, size, size, 4, dtype=torch.uint8, device=self.device)
        self.shown = torch.zeros(num_views, dtype=torch.long, device=self.device)
        """Which object each view shows."""
        self._views = torch.zeros(num_views, dtype=torch.long, device=self.device)
        self._nouns, self._colors = objects.noun.long(), body_colors(objects).long()
        for start in range(0, num_views, 2048):
            self.refresh(min(2048, num_views - start))

    @torch.no_grad()
    def refresh(self, count: int) -> None:
        """Replaces the `count` oldest views."""
        slots = ((torch.arange(count) + self._slot) % self.num_views).to(self.device)
        self._slot = (self._slot + count) % self.num_views
        which = torch.randint(len(self.objects), (count,), generator=self._generator).to(self.device)
        wanted = torch.randint(len(VIEWS), (count,), generator=self._generator)
        elevation, azimuth = view_angles(wanted, self._generator)
        self._pixels[slots] = render(self.objects[which], orbit(elevation, azimuth, self.size))
        self._views[slots] = view_index(elevation, azimuth).to(self.device)
        self.shown[slots] = which

    def sample(self, count: int) -> tuple[UInt8[Tensor, "B H W 4"], Labels]:
        """Random views, rendered as colour on white and coverage, and their labels."""
        which = torch.randint(self.num_views, (count,), generator=self._generator).to(self.device)
        return self._pixels[which], self._label(which)

    def all(self) -> tuple[UInt8[Tensor, "B H W 4"], Labels]:
        """Every view that is held now."""
        return self._pixels, self._label(torch.arange(self.num_views, device=self.device))

    def _label(self, which: Int[Tensor, " B"]) -> Labels:
        shown = self.shown[which]
        return Labels(noun=self._nouns[shown], color=self._colors[shown], view=self._views[which])


def augment(views: UInt8[Tensor, "B H W 4"], generator: torch.Generator) -> Float[Tensor, "B 3 H W"]:
    """Augment views: moved, scaled, mirrored, on plain backgrounds, blurred, relit, noisy, partly covered; in [-1, 1].

    Every change keeps the noun, the colour and the view. `generator` lives on the views' device.
    """
    count = len(views)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator, device=views.device)

    def chosen(share: float) -> Tensor:
        return uniform(0.0, 1.0, 1, 1, 1) < share

    pixels = views.permute(0, 3, 1, 2).float() / 255
    coverage = pixels[:, 3:]
    layers = torch.cat([pixels[:, :3] - (1 - coverage), coverage], dim=1)
    moved = _move(layers, uniform(0.85, 1.35), uniform(-0.12, 0.12, 2), uniform(0.0, 1.0) < 0.5)
    background = torch.where(chosen(0.5), 1.0, uniform(0.0, 1.0, 3, 1, 1))
    pictures = moved[:, :3] + (1 - moved[:, 3:]) * background
    softness = torch.where(chosen(0.6), uniform(0.0, 1.0, 1, 1, 1), 0.0)
    pictures = pictures + softness * (_blur(pictures) - pictures)
    pictures = 0.5 + (pictures - 0.5) * uniform(0.85, 1.1, 1, 1, 1) + uniform(-0.08, 0.08, 1, 1, 1)
    noise = torch.randn(pictures.shape, generator=generator, device=views.device)
    pictures = pictures + torch.where(chosen(0.5), uniform(0.0, 0.06, 1, 1, 1), 0.0) * noise
    covered = chosen(0.25) & _rectangles(uniform(0.0, 1.0, 2), uniform(0.05, 0.2, 2), views.shape[1])
    return torch.where(covered, uniform(0.0, 1.0, 3, 1, 1), pictures).clamp(0, 1) * 2 - 1


def _move(layers: Tensor, zoom: Tensor, shift: Tensor, mirror: Tensor) -> Float[Tensor, "B C H W"]:
    """The layers `zoom` times smaller, shifted by a share of half the side, mirrored where told; nothing outside."""
    matrices = torch.zeros(len(layers), 2, 3, device=layers.device)
    matrices[:, 0, 0], matrices[:, 1, 1] = torch.where(mirror, -zoom, zoom), zoom
    matrices[:, :, 2] = shift * zoom[:, None]
    grid = F.affine_grid(matrices, list(layers.shape), align_corners=False)
    return F.grid_sample(layers, grid, padding_mode="zeros", align_corners=False)


def _blur(pictures: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """A Gaussian blur with a deviation of 1.5 / 128 of the side."""
    deviation = 1.5 * pictures.shape[-1] / 128
    reach = max(1, round(2 * deviation))
    offsets = torch.arange(-reach, reach + 1, device=pictures.device)
    weights = (-0.5 * (offsets / deviation).square()).exp()
    weights = (weights / weights.sum()).expand(3, 1, 1, -1)
    padded = F.pad(pictures, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, weights, groups=3), weights.transpose(2, 3), groups=3)


def _rectangles(middle: Tensor, half: Tensor, size: int) -> Tensor:
    """Pixels inside a rectangle given as shares of the side: [B, 1, S, S], true inside."""
    places = (torch.arange(size, device=middle.device) + 0.5) / size
    inside = (places - middle[..., None]).abs() < half[..., None]
    return (inside[:, 0, :, None] & inside[:, 1, None, :])[:, None]
