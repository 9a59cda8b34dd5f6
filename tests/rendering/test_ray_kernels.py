"""Kernels of ray marching and compositing equal the reference: the same steps, weights and gradients.

Numba's on a CPU. Triton's on a GPU, or with TRITON_INTERPRET=1 on a CPU:
`TRITON_INTERPRET=1 python -m pytest -m gpu` and this file.
"""

import dataclasses
import os

import pytest
import torch

from hash3d import kernels
from hash3d.cameras import Cameras
from hash3d.rendering import rays as light
from hash3d.rendering import volume
from hash3d.rendering.rays import Rays, Steps, camera_rays, march
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import HashGridNerfConfig
from hash3d.representations.occupancy import OccupancyGrid, OccupancyGridConfig

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu"

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=["numba", pytest.param("triton", marks=pytest.mark.gpu)], autouse=True)
def backend(request, monkeypatch):
    """The backend that chooses some kernels; in the interpreter Triton's take tensors on the CPU."""
    global DEVICE
    DEVICE = "cuda" if request.param == "triton" and not INTERPRETED else "cpu"
    if request.param == "triton" and INTERPRETED:
        for module in (kernels, light, volume):
            monkeypatch.setattr(
                module, "uses_triton", lambda backend, like: backend != "torch" and like.dtype == torch.float32
            )
    return "auto" if request.param == "numba" else "triton"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(share: float | None) -> OccupancyGrid | None:
    """Cells of which a share is occupied, in a cube of radius 0.5: a power of 2, by which all divisions are exact."""
    if share is None:
        return None
    occupancy = OccupancyGridConfig(resolution=8).build(0.5).to(DEVICE)
    occupancy.occupied = (torch.rand(8**3, generator=seeded(5)) < share).to(DEVICE)
    return occupancy


def rays(radius: float) -> Rays:
    """Of two views with shifted samples, and rays along the axes: inside, in a face, past the cube."""
    cameras = Cameras.orbit(elevation=[20.0, -50.0], azimuth=[33.0, 200.0], radius=radius, fov_y=50.0, size=7)
    some = camera_rays(cameras, torch.zeros(1, device=DEVICE), seeded())
    origins = torch.tensor([[0.25, 0.0, -2.0], [0.5, 0.0, -2.0], [0.75, 0.0, -2.0]], device=DEVICE)
    directions = torch.tensor([[0.0, 0.0, 1.0]], device=DEVICE).expand(3, 3)
    shifts = torch.tensor([0.0, 0.5, 0.75], device=DEVICE)
    more = (torch.full((3,), 2, device=DEVICE), origins, directions, shifts)
    columns = [getattr(some, field.name) for field in dataclasses.fields(some)]
    return Rays(*(torch.cat(both) for both in zip(columns, more, strict=True)))


@pytest.mark.parametrize("share", [None, 0.0, 0.4, 1.0])
@pytest.mark.parametrize("radius", [1.3, 0.3])  # outside and inside the cube
def test_the_steps_equal_the_reference(radius, share, backend):
    expected, found = (march(rays(radius), 0.5, 0.07, grid(share), backend=each) for each in ("torch", backend))
    assert (len(expected) > 0) == (share != 0.0)
    assert torch.equal(found.rays, expected.rays)
    for name in ("distances", "lengths", "points"):
        # Operation by operation the same float32; only a division by a number may be one rounding off.
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), atol=1e-6, rtol=0)


def test_no_rays_have_no_steps(backend):
    none = Rays(*(column[:0] for column in vars(rays(1.3)).values()))
    assert len(march(none, 0.5, 0.07, grid(0.5), backend=backend)) == 0


@pytest.mark.parametrize("room", [-7, 0, 50])
def test_steps_fill_a_fixed_number_of_rows(room, backend):
    """Those for which there are no rows are missing; rows for which there are no steps count for nothing."""
    expected = march(rays(1.3), 0.5, 0.07, grid(0.4), backend=backend)
    capacity = len(expected) + room
    steps, bounds = light.march_within(rays(1.3), 0.5, 0.07, capacity, grid(0.4), backend=backend)
    assert torch.equal(bounds, expected.bounds(len(rays(1.3))))
    assert {len(each) for each in vars(steps).values()} == {capacity}
    for name, column in vars(expected).items():
        assert torch.equal(getattr(steps, name)[: len(expected)], column[:capacity])
    assert (steps.rays.diff() >= 0).all()
    assert not steps.lengths[len(expected) :].any()


COUNTS = [0, 5, 1, 70, 0, 32, 33, 64, 0]
"""Steps of rays: none, less than a block of 32, just one, and more."""


def steps_and_density(dtype: torch.dtype, scale: float) -> tuple[Steps, torch.Tensor]:
    total = sum(COUNTS)
    lengths = 0.05 * torch.rand(total, generator=seeded(1))
    density = scale * torch.rand(total, generator=seeded(2)) ** 4
    numbers = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS)).to(DEVICE)
    distances, points = torch.zeros(total, device=DEVICE), torch.zeros(total, 3, device=DEVICE)
    return Steps(numbers, distances, lengths.to(DEVICE, dtype), points), density.to(DEVICE, dtype)


@pytest.mark.parametrize("scale", [0.1, 20.0, 1e7])  # thin fog to opaque in one step
@pytest.mark.parametrize("columns", [1, 5, 9])
def test_weights_sums_and_gradients_equal_the_reference(scale, columns, backend):
    results = []
    for each, dtype in (("torch", torch.float64), (backend, torch.float32)):
        steps, density = steps_and_density(dtype, scale)
        density.requires_grad_()
        values = torch.randn(len(density), columns, generator=seeded(3)).to(density).requires_grad_()
        weights, sums = light.composite(density, values, steps, len(COUNTS), backend=each)
        above = [torch.randn(each.shape, generator=seeded(4)).to(each) for each in (weights, sums)]
        gradients = torch.autograd.grad((weights, sums), (density, values), above)
        results.append((weights.detach(), sums.detach(), *gradients))
    for expected, found in zip(*results, strict=True):
        # Numbers of about 1, sums of up to 70 of them, and exponents of a thickness rounded in float32.
        torch.testing.assert_close(found.double(), expected, atol=2e-6, rtol=2e-5)


def test_the_visible_steps_equal_the_reference(backend):
    steps, density = steps_and_density(torch.float32, 20.0)
    least = torch.tensor(0.01, device=DEVICE)
    expected, found = (
        light.is_visible(density, steps, len(COUNTS), least, 1e-3, backend=each) for each in ("torch", backend)
    )
    assert 0.2 < expected.float().mean() < 0.8
    assert torch.equal(found, expected)  # none of these numbers lies within a rounding of the two limits


def test_a_second_derivative_is_refused(backend):
    steps, density = steps_and_density(torch.float32, 20.0)
    density.requires_grad_()
    weights, _ = light.composite(density, torch.ones_like(density)[:, None], steps, len(COUNTS), backend=backend)
    with pytest.raises(RuntimeError, match="Expected no further derivative of the light along rays"):
        torch.autograd.grad(weights.sum(), density, create_graph=True)


@pytest.mark.parametrize("limits", [{"min_alpha": 0.0, "min_transmittance": 0.0}, {}])
def test_an_image_of_a_field_and_its_gradients_equal_the_reference(limits, backend):
    """Everything at once: colours, normals and shares of light of a hash grid with empty cells."""
    cameras = Cameras.orbit(elevation=[20.0, -50.0], azimuth=[33.0, 200.0], radius=1.3, fov_y=50.0, size=9)
    results = []
    for each in ("torch", backend):
        encoding = HashGridConfig(levels=3, log2_entries=8, base_resolution=3, finest_resolution=11, backend=each)
        field = HashGridNerfConfig(encoding=encoding, radius=0.5, blob_std=0.25).build(seeded()).to(DEVICE)
        field.encoding.table.data.mul_(3e3)
        occupancy = OccupancyGridConfig(resolution=8).build(0.5).to(DEVICE)
        renderer = VolumeRendererConfig(samples_per_ray=48, backend=each, **limits).build()
        occupancy.update(field, renderer.config.step_length(0.5), seeded(1))
        back = torch.zeros(2, 3, device=DEVICE)
        image = renderer(field, cameras, back, occupancy=occupancy, generator=seeded(2), normals=True)
        columns = (image.color, image.alpha, image.depth, image.normal, image.samples.weights, image.samples.normals)
        weights = [torch.randn(each.shape, generator=seeded(3)).to(each) for each in columns]
        sum((each * weight).sum() for each, weight in zip(columns, weights, strict=True)).backward()
        results.append([*(each.detach() for each in columns), *(each.grad for each in field.parameters())])
    assert results[0][1].max() > 0.5
    # Both in float32; normals divide by gradients, of which some are small. Triton's networks round what they multiply
    # to 10 bits after the point.
    error = 1e-4 if backend == "auto" else 5e-3
    for expected, found in zip(*results, strict=True):
        assert found.shape == expected.shape
        assert (found - expected).norm() < error * expected.norm()
