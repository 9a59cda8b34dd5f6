"""Buffers of rendered views that training samples from, refreshed object by object while it runs."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from hash3d.cameras import Cameras

from .backgrounds import over_background
from .world import Objects, render, sample_objects

RADIUS, FOV_Y = 1.5, 49.1
VIEWS = 8
"""Of each object in a buffer."""
ELEVATION = (-20.0, 80.0)
"""Of all cameras, in degrees."""
USUAL_ELEVATION = (-10.0, 50.0)
"""Of half of them: from here pictures are mostly taken."""
FRONT_AZIMUTH = (-60.0, 60.0)
"""Of the FRONT_VIEWS first of each object: people picture the front."""
FRONT_VIEWS = 3
FRONT_CONDITIONS = 0.75
"""Share of the conditions that are such a view; the others are any."""


def draw_angles(
    count: int, views: int, generator: torch.Generator
) -> tuple[Float[Tensor, "N V"], Float[Tensor, "N V"]]:
    """Elevations and azimuths in degrees of objects' views: half in USUAL_ELEVATION, FRONT_VIEWS in FRONT_AZIMUTH."""
    shape = (count, views)
    low, high = (torch.full(shape, end) for end in ELEVATION)
    low[:, : views // 2], high[:, : views // 2] = USUAL_ELEVATION
    elevation = low + (high - low) * torch.rand(shape, generator=generator)
    azimuth = 360 * torch.rand(shape, generator=generator)
    left, right = FRONT_AZIMUTH
    azimuth[:, :FRONT_VIEWS] = (left + (right - left) / 360 * azimuth[:, :FRONT_VIEWS]) % 360
    return elevation, azimuth


def orbit(elevation: Tensor, azimuth: Tensor, size: int) -> Cameras:
    """Cameras at the priors' distance and field of view."""
    return Cameras.orbit(elevation=elevation.cpu(), azimuth=azimuth.cpu(), radius=RADIUS, fov_y=FOV_Y, size=size)


def random_views(
    count: int,
    size: int,
    seed: int,
    device: torch.device,
    first: int = 0,
    num_objects: int = 65_536,
    colored_backgrounds: float = 0.0,
) -> Iterator[UInt8[Tensor, "B H W 4"]]:
    """Endless batches of `count` views, each of another of `num_objects` objects, in order.

    The share `colored_backgrounds` of them lies on a plain background of any colour, the others on white.
    """
    generator = torch.Generator().manual_seed(seed)
    table = Table(device, num_objects=max(num_objects, count), first=first)
    while True:
        low, high = ELEVATION
        elevation = low + (high - low) * torch.rand(count, generator=generator)
        azimuth = 360 * torch.rand(count, generator=generator)
        views = render(table.take(count), orbit(elevation, azimuth, size))
        if colored_backgrounds > 0:
            backgrounds = torch.rand(count, 3, generator=generator)
            backgrounds[torch.rand(count, generator=generator) >= colored_backgrounds] = 1.0
            views = over_background(views, backgrounds)
        yield views


class Table:
    """Many objects sampled at once (sampling few costs as much), handed out in turn, again and again.

    `first`, `stride`: the first object's number, and the step to the next. `posed`: as they lie, or upright with the
    front at azimuth 0.
    """

    def __init__(
        self, device: torch.device, num_objects: int, first: int = 0, stride: int = 1, posed: bool = True
    ) -> None:
        identities = first + stride * torch.arange(num_objects, device=device)
        self._objects = Objects.concatenate([sample_objects(part, posed=posed) for part in identities.split(131_072)])
        self._next = 0

    def indices(self, count: int) -> Int[Tensor, " count"]:
        """Rows of the next `count` objects, on the CPU."""
        indices = (torch.arange(count) + self._next) % len(self._objects)
        self._next = (self._next + count) % len(self._objects)
        return indices

    def take(self, count: int) -> Objects:
        """The next `count` objects."""
        return self[self.indices(count)]

    def __getitem__(self, indices: Tensor) -> Objects:
        return self._objects[indices.to(self._objects.kind.device, non_blocking=True)]

    def to(self, device: str) -> Objects:
        """A copy of all objects."""
        return self._objects.to(device)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """What a buffer hands out."""

    latents: Float[Tensor, "B 4 h w"]
    """Of the views to learn; the posterior's mode, not scaled."""


BatchT = TypeVar("BatchT", bound=Batch)


class ViewStream(ABC, Generic[BatchT]):
    """`num_objects` objects with `views` views each: latents and what goes with them, on `device`.

    `encode` maps [B, H, W, 4] bytes to latents. Objects are numbered from `first` in steps of `stride`, so that several
    processes share no object; `num_objects + reserve` are sampled, and the refreshes go through them.
    """

    posed: bool

    def __init__(
        self,
        *,
        num_objects: int,
        views: int,
        size: int,
        encode: Callable[[Tensor], Tensor],
        device: torch.device,
        seed: int,
        first: int = 0,
        stride: int = 1,
        reserve: int = 0,
    ) -> None:
        self.num_objects, self.views, self.size, self.device = num_objects, views, size, device
        self._encode, self._slot = encode, 0
        self._table = Table(device, num_objects + reserve, first, stride, self.posed)
        self._generator = torch.Generator().manual_seed(seed)
        self._device_generator = torch.Generator(device).manual_seed(seed)
        self._tensors: dict[str, Tensor] = {}

    def fill(self) -> None:
        """Fills every slot."""
        chunk = min(512, self.num_objects)
        for _ in range(-(-self.num_objects // chunk)):
            self.refresh(chunk)

    @torch.no_grad()
    def refresh(self, count: int) -> None:
        """Replaces the `count` oldest objects."""
        slots = (torch.arange(count) + self._slot) % self.num_objects
        self._slot = (self._slot + count) % self.num_objects
        made = self.make(self._table.indices(count))
        index = slots.to(self.device, non_blocking=True)
        for name, value in made.items():
            if name not in self._tensors:
                shape = (self.num_objects, *value.shape[1:])
                self._tensors[name] = torch.empty(shape, dtype=value.dtype, device=self.device)
            self._tensors[name][index] = value.to(self.device, non_blocking=True)

    @abstractmethod
    def make(self, indices: Int[Tensor, " N"]) -> dict[str, Tensor]:
        """What the buffer keeps of the objects in these rows of its table: tensors [N, views, ...] by name."""

    @abstractmethod
    def sample(self, count: int) -> BatchT:
        """A random batch, without any wait for the device."""

    def see(
        self, indices: Int[Tensor, " N"], elevation: Float[Tensor, "N V"], azimuth: Float[Tensor, "N V"]
    ) -> UInt8[Tensor, "NV H W 4"]:
        """The rendered views of the objects in these rows."""
        cameras = orbit(elevation.flatten(), azimuth.flatten(), self.size)
        return render(self._table[indices.repeat_interleave(self.views)], cameras)

    def encode(self, pixels: UInt8[Tensor, "NV H W 4"]) -> Float[Tensor, "N V 4 h w"]:
        """Their latents."""
        return torch.cat([self._encode(part) for part in pixels.split(1024)]).unflatten(0, (-1, self.views))

    def random_shares(self, count: int) -> Float[Tensor, " count"]:
        """Uniform in [0, 1), on the device."""
        return torch.rand(count, generator=self._device_generator, device=self.device)

    def random_integers(self, below: int, count: int) -> Int[Tensor, " count"]:
        """Random integers on the device."""
        return torch.randint(below, (count,), generator=self._device_generator, device=self.device)


@dataclass(frozen=True, kw_only=True)
class Pairs(Batch):
    """B pairs of views of one object each; angles in degrees, relative azimuth = target - condition.

    The latents are the target's; like the condition's, they are not scaled.
    """

    condition: UInt8[Tensor, "B H W 4"]
    condition_latents: Float[Tensor, "B 4 h w"]
    reference_elevation: Float[Tensor, " B"]
    elevation: Float[Tensor, " B"]
    relative_azimuth: Float[Tensor, " B"]


class ViewBuffer(ViewStream[Pairs]):
    """Bytes, latents and angles; half of an object's views lie in USUAL_ELEVATION, FRONT_VIEWS in FRONT_AZIMUTH.

    So most conditions show a label, logo or face. From all round, half of these would be hidden, and a plain side would
    as often be the back of something.
    """

    posed = True
    num_kept = 0
    """Objects whose views were given."""
    share = 0.0
    """Of the pairs that are theirs."""

    def keep(
        self,
        pixels: UInt8[Tensor, "N V S S 4"],
        elevation: Float[Tensor, "N V"],
        azimuth: Float[Tensor, "N V"],
        share: float,
    ) -> None:
        """Add given views of N other objects for good, once, after `fill`: `share` (0 to 1) of the pairs is theirs.

        Angles are in degrees. `ValueError` for views of another number or size than the buffer's.
        """
        if self.num_kept or pixels.shape[1:4] != (self.views, self.size, self.size):
            raise ValueError(f"Expected, once, {self.views} views of {self.size} pixels, but got {[*pixels.shape]}.")
        pixels = pixels.to(self.device)
        latents = self.encode(pixels.flatten(0, 1))
        made = {"pixels": pixels, "latents": latents, "elevation": elevation, "azimuth": azimuth}
        self._tensors = {name: torch.cat([self._tensors[name], each.to(self.device)]) for name, each in made.items()}
        self.num_kept, self.share = len(pixels), share

    def make(self, indices: Int[Tensor, " N"]) -> dict[str, Tensor]:
        """Pixels, latents and angles."""
        elevation, azimuth = draw_angles(len(indices), self.views, self._generator)
        pixels = self.see(indices, elevation, azimuth)
        latents = self.encode(pixels)
        pixels = pixels.unflatten(0, (-1, self.views))
        return {"pixels": pixels, "latents": latents, "elevation": elevation, "azimuth": azimuth}

    def sample(self, count: int) -> Pairs:
        """Random pairs of two different views of one object."""
        which = self.random_integers(self.num_objects, count)
        if self.num_kept:
            kept = self.num_objects + self.random_integers(self.num_kept, count)
            which = torch.where(self.random_shares(count) < self.share, kept, which)
        front = self.random_shares(count) < FRONT_CONDITIONS
        first = torch.where(front, self.random_integers(FRONT_VIEWS, count), self.random_integers(self.views, count))
        second = (first + 1 + self.random_integers(self.views - 1, count)) % self.views
        pixels, latents, elevation, azimuth = (
            self._tensors[name] for name in ("pixels", "latents", "elevation", "azimuth")
        )
        return Pairs(
            condition=pixels[which, first],
            condition_latents=latents[which, first],
            latents=latents[which, second],
            reference_elevation=elevation[which, first],
            elevation=elevation[which, second],
            relative_azimuth=azimuth[which, second] - azimuth[which, first],
        )
