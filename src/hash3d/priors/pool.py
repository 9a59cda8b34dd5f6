"""A pool of rendered views that training draws from, refreshed object by object while it runs."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.priors.world import Objects, draw_objects, render

RADIUS, FOV_Y = 1.5, 49.1
CONDITION_ELEVATION = (-10.0, 50.0)
TARGET_ELEVATION = (-20.0, 75.0)


def orbit(elevation: Tensor, azimuth: Tensor, size: int) -> Cameras:
    """Cameras at the priors' distance and field of view."""
    return Cameras.orbit(elevation=elevation.cpu(), azimuth=azimuth.cpu(), radius=RADIUS, fov_y=FOV_Y, size=size)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """B pairs of views of one object each; angles in degrees, relative azimuth = target - condition."""

    condition: UInt8[Tensor, "B H W 4"]
    condition_latents: Float[Tensor, "B 4 h w"]
    latents: Float[Tensor, "B 4 h w"]
    """Of the target view; like the condition's, the posterior's mode, not scaled."""
    reference_elevation: Float[Tensor, " B"]
    elevation: Float[Tensor, " B"]
    relative_azimuth: Float[Tensor, " B"]


def random_views(
    count: int, size: int, seed: int, device: torch.device, first: int = 0, num_objects: int = 65_536
) -> Iterator[UInt8[Tensor, "B H W 4"]]:
    """Endless batches of `count` views, each of another of `num_objects` objects, in order."""
    generator = torch.Generator().manual_seed(seed)
    table = Table(device, num_objects=max(num_objects, count), first=first)
    while True:
        low, high = TARGET_ELEVATION
        elevation = low + (high - low) * torch.rand(count, generator=generator)
        azimuth = 360 * torch.rand(count, generator=generator)
        yield render(table.take(count), orbit(elevation, azimuth, size))


class Table:
    """Many objects drawn at once (drawing few costs as much), handed out in turn, again and again."""

    def __init__(self, device: torch.device, num_objects: int, first: int = 0, stride: int = 1) -> None:
        identities = first + stride * torch.arange(num_objects, device=device)
        self._objects = Objects.concatenate([draw_objects(part) for part in identities.split(32_768)])
        self._next = 0

    def take(self, count: int) -> Objects:
        """The next `count` objects."""
        places = (torch.arange(count, device=self._objects.kind.device) + self._next) % len(self._objects)
        self._next = (self._next + count) % len(self._objects)
        return self._objects[places]


class ViewPool:
    """`num_objects` objects with `views` views each: bytes, latents and angles, on `device`.

    The first half of an object's views lie in the range of the conditions. `encode` maps [B, H, W, 4] bytes to latents.
    Objects are numbered from `first` in steps of `stride`, so that several processes share no object;
    `num_objects + reserve` are drawn, and the refreshes go through them.
    """

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
        self._table = Table(device, num_objects + reserve, first, stride)
        self._generator = torch.Generator().manual_seed(seed)
        self._pixels = torch.empty(num_objects, views, size, size, 4, dtype=torch.uint8, device=device)
        self._latents: Tensor | None = None
        self._elevation = torch.empty(num_objects, views)
        self._azimuth = torch.empty(num_objects, views)
        chunk = min(512, num_objects)
        for _ in range(-(-num_objects // chunk)):
            self.refresh(chunk)

    @torch.no_grad()
    def refresh(self, count: int) -> None:
        """Replaces the `count` oldest objects."""
        slots = (torch.arange(count) + self._slot) % self.num_objects
        self._slot = (self._slot + count) % self.num_objects
        low = torch.full((count, self.views), TARGET_ELEVATION[0])
        high = torch.full((count, self.views), TARGET_ELEVATION[1])
        low[:, : self.views // 2], high[:, : self.views // 2] = CONDITION_ELEVATION
        elevation = low + (high - low) * torch.rand(low.shape, generator=self._generator)
        azimuth = 360 * torch.rand(low.shape, generator=self._generator)
        objects = self._table.take(count)
        many = objects[torch.arange(count, device=self.device).repeat_interleave(self.views)]
        pixels = render(many, orbit(elevation.flatten(), azimuth.flatten(), self.size))
        latents = torch.cat([self._encode(part) for part in pixels.split(1024)])
        if self._latents is None:
            shape = (self.num_objects, self.views, *latents.shape[1:])
            self._latents = torch.empty(shape, dtype=latents.dtype, device=self.device)
        places = slots.to(self.device)
        self._pixels[places] = pixels.view(count, self.views, *pixels.shape[1:])
        self._latents[places] = latents.view(count, self.views, *latents.shape[1:])
        self._elevation[slots], self._azimuth[slots] = elevation, azimuth

    def sample(self, count: int) -> Pairs:
        """Random pairs of two different views of one object."""
        assert self._latents is not None
        which = torch.randint(self.num_objects, (count,), generator=self._generator)
        condition = torch.randint(self.views // 2, (count,), generator=self._generator)
        target = (condition + torch.randint(1, self.views, (count,), generator=self._generator)) % self.views
        index, first, second = (each.to(self.device, non_blocking=True) for each in (which, condition, target))
        return Pairs(
            condition=self._pixels[index, first],
            condition_latents=self._latents[index, first],
            latents=self._latents[index, second],
            reference_elevation=self._elevation[which, condition],
            elevation=self._elevation[which, target],
            relative_azimuth=self._azimuth[which, target] - self._azimuth[which, condition],
        )
