"""Cameras on an orbit, and the one page of conventions.

World: right-handed, +y up; an object's front faces +z (as in glTF). The object's centre is the origin.
Elevation: degrees above the horizon. Azimuth: degrees, counter-clockwise seen from above, 0 at +z, 90 at +x, periodic.
Eye: `radius * (cos(el) sin(az), sin(el), cos(el) cos(az))`, looking at the origin. Lengths are scene units.
Camera frame: OpenCV (x right, y down, z forward). Pixel (column, row) has its centre at (column + 0.5, row + 0.5).
Angles are degrees in every public place, radians inside one function. Cameras live on the CPU.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .ranges import expect_range
from .tensors import to_device

Interval = tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class Cameras:
    """A batch of B orbit cameras of one image size: degrees and scene units, on the CPU.

    Matrices are computed from them once, and must not be written to. `shift` leads from the image's centre to the
    principal point, in pixels to the right and down.
    """

    elevation: Float[Tensor, " B"]
    azimuth: Float[Tensor, " B"]
    radius: Float[Tensor, " B"]
    fov_y: Float[Tensor, " B"]
    width: int
    height: int
    shift: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def orbit(
        cls,
        *,
        elevation: float | list[float] | Tensor,
        azimuth: float | list[float] | Tensor,
        radius: float | list[float] | Tensor,
        fov_y: float | list[float] | Tensor,
        size: int,
    ) -> "Cameras":
        """Build square cameras of `size` pixels from scalars, lists or tensors, broadcast against each other."""
        given = (elevation, azimuth, radius, fov_y)
        elevations, azimuths, radii, fovs = torch.broadcast_tensors(
            *(torch.atleast_1d(torch.as_tensor(values, dtype=torch.float32)) for values in given)
        )
        return cls(elevation=elevations, azimuth=azimuths, radius=radii, fov_y=fovs, width=size, height=size)

    def with_matrices(
        self, viewmats: Float[Tensor, "B 4 4"], intrinsics: Float[Tensor, "B 3 3"], c2w: Float[Tensor, "B 4 4"]
    ) -> "Cameras":
        """The same cameras with matrices that are computed already, on any device."""
        cameras = replace(self)
        vars(cameras).update(viewmats=viewmats, K=intrinsics, c2w=c2w, eyes=c2w[:, :3, 3])
        return cameras

    def __len__(self) -> int:
        return self.elevation.shape[0]

    def __getitem__(self, index: int | slice) -> "Cameras":
        chosen = slice(index, index + 1) if isinstance(index, int) else index
        given = {each.name: getattr(self, each.name) for each in fields(self)}
        changed: dict[str, Any] = {name: each[chosen] for name, each in given.items() if isinstance(each, Tensor)}
        return replace(self, **changed)

    @cached_property
    def eyes(self) -> Float[Tensor, "B 3"]:
        """Camera centres in the world."""
        elevation, azimuth = torch.deg2rad(self.elevation), torch.deg2rad(self.azimuth)
        direction = torch.stack(
            [elevation.cos() * azimuth.sin(), elevation.sin(), elevation.cos() * azimuth.cos()], dim=-1
        )
        return self.radius[:, None] * direction

    @cached_property
    def c2w(self) -> Float[Tensor, "B 4 4"]:
        """Camera to world: right, down, forward and the eye, from the angles: straight up and down are defined too."""
        elevation, azimuth = torch.deg2rad(self.elevation), torch.deg2rad(self.azimuth)
        zero = torch.zeros_like(azimuth)
        right = torch.stack([azimuth.cos(), zero, -azimuth.sin()], dim=-1)
        down = torch.stack([elevation.sin() * azimuth.sin(), -elevation.cos(), elevation.sin() * azimuth.cos()], dim=-1)
        eyes = self.eyes
        forward = -eyes / self.radius[:, None]
        matrices = torch.eye(4).repeat(len(self), 1, 1)
        matrices[:, :3] = torch.stack([right, down, forward, eyes], dim=-1)
        return matrices

    @cached_property
    def viewmats(self) -> Float[Tensor, "B 4 4"]:
        """World to camera, the inverse of `c2w`."""
        c2w = self.c2w
        rotation = c2w[:, :3, :3].transpose(1, 2)
        matrices = torch.eye(4).repeat(len(self), 1, 1)
        matrices[:, :3, :3] = rotation
        matrices[:, :3, 3:] = -rotation @ c2w[:, :3, 3:]
        return matrices

    @cached_property
    def K(self) -> Float[Tensor, "B 3 3"]:  # noqa: N802  (the field's name for the intrinsics)
        """Intrinsics in pixels: square pixels, principal point at the image's centre unless there is a shift."""
        focal = 0.5 * self.height / torch.tan(0.5 * torch.deg2rad(self.fov_y))
        matrices = torch.eye(3).repeat(len(self), 1, 1)
        matrices[:, 0, 0] = matrices[:, 1, 1] = focal
        matrices[:, :2, 2] = 0.5 * torch.tensor([self.width, self.height]) + torch.tensor(self.shift)
        return matrices

    def rays(self, device: torch.device | None = None) -> tuple[Float[Tensor, "B H W 3"], Float[Tensor, "B H W 3"]]:
        """Return origins and unit directions of the rays through the pixel centres, on `device` (None: the CPU)."""
        device = device or torch.device("cpu")
        columns, rows = (torch.arange(count, device=device) + 0.5 for count in (self.width, self.height))
        v, u = torch.meshgrid(rows, columns, indexing="ij")
        eyes, c2w, intrinsics = (to_device(each, device) for each in (self.eyes, self.c2w, self.K[:, None, None]))
        local = torch.stack(
            [
                (u - intrinsics[..., 0, 2]) / intrinsics[..., 0, 0],
                (v - intrinsics[..., 1, 2]) / intrinsics[..., 1, 1],
                torch.ones(len(self), self.height, self.width, device=device),
            ],
            dim=-1,
        )
        directions = torch.einsum("bij,bhwj->bhwi", c2w[:, :3, :3], local)
        directions = directions / directions.norm(dim=-1, keepdim=True)
        return eyes[:, None, None].expand_as(directions), directions

    def project(self, points: Float[Tensor, "N 3"]) -> tuple[Float[Tensor, "B N 2"], Float[Tensor, "B N"]]:
        """Project world points to pixels (column, row) and depths along z in scene units, on the points' device.

        Pixel (column, row) has its centre at (column + 0.5, row + 0.5). Where the depth is 0 or less, the pixels have
        no meaning.
        """
        viewmats, intrinsics = to_device(self.viewmats, points), to_device(self.K, points)
        local = points @ viewmats[:, :3, :3].mT + viewmats[:, None, :3, 3]
        focal, centre = intrinsics.diagonal(dim1=1, dim2=2)[:, None, :2], intrinsics[:, None, :2, 2]
        return local[..., :2] / local[..., 2:] * focal + centre, local[..., 2]


@dataclass(frozen=True)
class Lattice:
    """One pixel in stride x stride, beginning at a column and a row: what a step looks at of a large image."""

    stride: int = 1
    column: int = 0
    row: int = 0

    @classmethod
    def draw(cls, size: int, stride: int, generator: torch.Generator) -> "Lattice":
        """Draw its place from a generator on the CPU; all pixels where `stride` does not divide `size`."""
        if stride == 1 or size % stride:
            return cls()
        return cls(stride, *torch.randint(stride, (2,), generator=generator).tolist())

    def cameras(self, cameras: Cameras) -> Cameras:
        """The cameras that see these pixels alone."""
        if self.stride == 1:
            return cameras
        x, y = (0.5 - (place + 0.5) / self.stride for place in (self.column, self.row))
        return replace(cameras, width=cameras.width // self.stride, height=cameras.height // self.stride, shift=(x, y))

    def images(self, images: Float[Tensor, "B H W C"]) -> Float[Tensor, "B h w C"]:
        """These pixels of images."""
        return images[:, self.row :: self.stride, self.column :: self.stride]


@dataclass(frozen=True, kw_only=True)
class CameraSamplerConfig:
    """Distribution of the random views of a stage, and how they are sampled.

    Args:
        elevation: Range in degrees. Half of the samples are uniform in degrees, half uniform on the sphere (threestudio
            28d9d80, data/uncond.py).
        azimuth: Range in degrees, relative to the reference view.
        radius: Distance to the origin in scene units: that of the reference view and of shown views, and without a
            range that of the random views.
        radius_range: Distances of the random views in scene units, uniform for each view. None: always `radius`.
        fov_y: Vertical field of view in degrees: that of the reference view and of shown views, and without a range
            that of the random views.
        fov_y_range: Vertical fields of view of the random views in degrees, one for each view. None: always `fov_y`.
        batch_size: Views a step. The azimuth range is split into this many equal strata, one view each.
    """

    elevation: tuple[float, float] = (-10.0, 60.0)
    azimuth: tuple[float, float] = (-180.0, 180.0)
    radius: float = 1.5
    radius_range: tuple[float, float] | None = None
    fov_y: float = 49.1
    fov_y_range: tuple[float, float] | None = None
    batch_size: int = 1

    def __post_init__(self) -> None:
        expect_range(self, "batch_size", at_least=1)
        expect_range(self, "radius radius_range", above=0)
        expect_range(self, "fov_y fov_y_range", above=0, below=180)
        for name in ("elevation", "azimuth", "radius_range", "fov_y_range"):
            low, high = getattr(self, name) or (0.0, 0.0)
            if low > high:
                raise ValueError(f"Expected {name} in rising order, but got ({low}, {high}).")

    def sample(self, size: int, generator: torch.Generator) -> Cameras:
        """Sample one batch of square cameras of `size` pixels; every number comes from `generator` (on the CPU)."""
        uniform = torch.rand(self.batch_size, generator=generator)
        in_degrees, on_sphere = _elevations(uniform, *self.elevation)
        elevation = torch.where(torch.rand(1, generator=generator) < 0.5, in_degrees, on_sphere)
        low, high = torch.tensor([self.stratum(view) for view in range(self.batch_size)]).unbind(-1)
        azimuth = low + (high - low) * torch.rand(self.batch_size, generator=generator)
        radii = None if self.radius_range is None else [self.radius_range] * self.batch_size
        return self._cameras(elevation, azimuth, radii, size, generator)

    def sample_inside(
        self,
        elevations: Sequence[Interval],
        azimuths: Sequence[Sequence[Interval]],
        radii: Sequence[Interval] | None,
        size: int,
        generator: torch.Generator,
    ) -> Cameras:
        """Sample a batch given that view v lies in elevations[v], in one of azimuths[v], and in radii[v].

        radii: None for a sampler without a range of radii. Given the intervals the kind of elevation is no longer a
        fair coin: its weight is the probability that a sample of that kind lies there.
        """
        low, high = torch.tensor(elevations, dtype=torch.float64).unbind(-1)
        first, last = self.elevation
        sines = [math.sin(math.radians(bound)) for bound in (first, last)]
        in_degrees = ((high - low) / (last - first)).prod() if last > first else torch.ones(())
        sphere = torch.sin(torch.deg2rad(high)) - torch.sin(torch.deg2rad(low))
        on_sphere = (sphere / (sines[1] - sines[0])).prod() if last > first else torch.ones(())
        coin, *uniform = torch.rand(1 + 2 * len(elevations), generator=generator).split((1, *[len(elevations)] * 2))
        kinds = _elevations(uniform[0], low.float(), high.float())
        elevation = kinds[0] if float(coin) * float(in_degrees + on_sphere) < float(in_degrees) else kinds[1]
        azimuth = torch.tensor(
            [_interpolate(float(share), each) for share, each in zip(uniform[1], azimuths, strict=True)]
        )
        return self._cameras(elevation, azimuth, radii, size, generator)

    def stratum(self, view: int) -> tuple[float, float]:
        """Return the azimuths of one view of a batch."""
        low, high = self.azimuth
        width = (high - low) / self.batch_size
        return low + view * width, low + (view + 1) * width

    def _cameras(
        self,
        elevation: Float[Tensor, " B"],
        azimuth: Float[Tensor, " B"],
        radii: Sequence[Interval] | None,
        size: int,
        generator: torch.Generator,
    ) -> Cameras:
        """Build cameras at given angles; sample radii in intervals (None: the one radius) and fields of view."""
        radius = self.radius if radii is None else _sample_intervals(radii, generator)
        fovs = None if self.fov_y_range is None else [self.fov_y_range] * self.batch_size
        fov_y = self.fov_y if fovs is None else _sample_intervals(fovs, generator)
        return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=radius, fov_y=fov_y, size=size)


def _elevations(
    uniform: Float[Tensor, " N"], low: float | Float[Tensor, " N"], high: float | Float[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Return elevations between two bounds, uniform in degrees and uniform on the sphere."""
    sine_low, sine_high = (torch.sin(torch.deg2rad(torch.as_tensor(bound))) for bound in (low, high))
    return low + (high - low) * uniform, torch.rad2deg(torch.asin(sine_low + (sine_high - sine_low) * uniform))


def _sample_intervals(intervals: Sequence[Interval], generator: torch.Generator) -> Float[Tensor, " N"]:
    """Sample each interval in float64, so that rounding to float32 seldom crosses a border."""
    low, high = torch.tensor(intervals, dtype=torch.float64).unbind(-1)
    return (low + (high - low) * torch.rand(len(intervals), generator=generator, dtype=torch.float64)).float()


def _interpolate(share: float, intervals: Sequence[Interval]) -> float:
    """Return the point that has `share` of the intervals' whole length before it."""
    left = share * sum(high - low for low, high in intervals)
    for low, high in intervals:
        if left <= high - low:
            return low + left
        left -= high - low
    return intervals[-1][1]
