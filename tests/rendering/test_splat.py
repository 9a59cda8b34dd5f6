"""Images of Gaussians by every backend."""

import math

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.rendering.base import Render
from hash3d.rendering.splat import SplatRendererConfig, pick_backend, render_gaussians, screen_probe
from hash3d.representations.gaussians import GaussiansConfig, GaussianTensors

BACKENDS = {"torch": torch.float64, "numba": torch.float32}
"""Numba's kernels are compiled for each precision, which takes long: the suite has them in the one of training."""
RED, GREEN, WHITE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (1.0, 1.0, 1.0)


def splats(*rows: tuple[tuple[float, ...], tuple[float, ...], float, float]) -> GaussianTensors:
    """Round Gaussians, each (place, colour, scale, opacity), in float64."""
    count = len(rows)
    return GaussianTensors(
        means=torch.tensor([row[0] for row in rows], dtype=torch.float64).reshape(count, 3),
        colors=torch.tensor([row[1] for row in rows], dtype=torch.float64).reshape(count, 3),
        scales=torch.tensor([[row[2]] * 3 for row in rows], dtype=torch.float64).reshape(count, 3),
        opacities=torch.tensor([row[3] for row in rows], dtype=torch.float64),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]] * count, dtype=torch.float64).reshape(count, 4),
    )


def view(azimuth: float | list[float] = 0.0, elevation: float = 0.0, size: int = 33) -> Cameras:
    return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=1.5, fov_y=49.1, size=size)


def render(scene, cameras, backend, background=(0.0, 0.0, 0.0)):
    """Images in float64, rendered in the backend's precision."""
    kind, back = BACKENDS[backend], torch.tensor([background] * len(cameras))
    scene = GaussianTensors(**{name: values.to(kind) for name, values in vars(scene).items()})
    image = render_gaussians(scene, cameras, back, config=SplatRendererConfig(backend=backend))
    return Render(color=image.color.double(), alpha=image.alpha.double(), depth=image.depth.double())


def centroid(alpha: torch.Tensor) -> tuple[float, float]:
    """Mean (column, row) of an image "H W", in pixels."""
    rows, columns = torch.meshgrid(*(torch.arange(size) + 0.5 for size in alpha.shape), indexing="ij")
    return float((alpha * columns).sum() / alpha.sum()), float((alpha * rows).sum() / alpha.sum())


@pytest.mark.parametrize("backend", BACKENDS)
def test_one_gaussian_has_its_analytic_footprint(backend):
    image = render(splats(((0, 0, 0), RED, 0.1, 0.8)), view(), backend)
    focal = 0.5 * 33 / math.tan(math.radians(49.1) / 2)
    variance = (focal * 0.1 / 1.5) ** 2 + 0.3
    offsets = torch.arange(33, dtype=torch.float64) - 16
    squared = offsets[:, None] ** 2 + offsets[None] ** 2
    expected = 0.8 * torch.exp(-0.5 * squared / variance)
    expected = torch.where(expected >= 1 / 255, expected, 0.0)
    # The cameras are float32, so lengths in pixels are right to about 1e-6.
    torch.testing.assert_close(image.alpha[0, ..., 0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(image.color[0, ..., 0], expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(image.depth[0, ..., 0], 1.5 * expected, atol=1e-5, rtol=0)
    assert image.color[0, ..., 1:].abs().max() == 0


@pytest.mark.parametrize("backend", BACKENDS)
def test_plus_x_is_right_from_the_front_and_near_from_the_right(backend):
    scene = splats(((0.3, 0, 0), RED, 0.05, 0.9))
    image = render(scene, view([0.0, 90.0, 180.0]), backend)
    columns = [centroid(alpha[..., 0])[0] for alpha in image.alpha]
    assert columns[0] > 20
    assert columns[1] == pytest.approx(16.5, abs=0.01)
    assert columns[2] < 13
    nearest = image.depth[1].sum() / image.alpha[1].sum()
    assert nearest.item() == pytest.approx(1.2, abs=1e-4)


@pytest.mark.parametrize("backend", BACKENDS)
def test_plus_y_is_up_and_a_high_camera_looks_down(backend):
    above = render(splats(((0, 0.3, 0), RED, 0.05, 0.9)), view(), backend)
    assert centroid(above.alpha[0, ..., 0])[1] < 13
    front = render(splats(((0, 0, 0.3), RED, 0.05, 0.9)), view(elevation=60.0), backend)
    assert centroid(front.alpha[0, ..., 0])[1] > 20


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("azimuth", "front"), [(0.0, 0), (180.0, 1)])
def test_the_nearer_gaussian_covers_the_farther(backend, azimuth, front):
    scene = splats(((0, 0, 0.3), RED, 0.2, 0.75), ((0, 0, -0.3), GREEN, 0.2, 0.75))
    pixel = render(scene, view(azimuth), backend).color[0, 16, 16]
    assert pixel[front].item() == pytest.approx(0.75, abs=1e-5)
    assert pixel[1 - front].item() == pytest.approx(0.75 * 0.25, abs=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_light_is_left_shows_the_background(backend):
    image = render(splats(((0, 0, 0), RED, 0.1, 0.6)), view(), backend, background=(0.2, 0.4, 1.0))
    expected = image.alpha * torch.tensor(RED) + (1 - image.alpha) * torch.tensor([0.2, 0.4, 1.0])
    torch.testing.assert_close(image.color, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_ball_of_gaussians_has_a_round_centred_silhouette_from_everywhere(backend):
    scene = GaussiansConfig(num_points=2000, radius=0.4, opacity=0.9).build(torch.Generator().manual_seed(0))
    scene.log_scales.data.fill_(math.log(0.02))
    cameras = Cameras.orbit(elevation=[30.0, -50.0, 90.0], azimuth=[75.0, 200.0, 10.0], radius=1.5, fov_y=49.1, size=64)
    alpha = render_gaussians(scene, cameras, torch.ones(3, 3), config=SplatRendererConfig(backend=backend)).alpha
    focal = 32 / math.tan(math.radians(49.1) / 2)
    disc = math.pi * (focal * 0.4 / math.sqrt(1.5**2 - 0.4**2)) ** 2
    for silhouette in (alpha[..., 0].detach() > 0.5).double():
        assert centroid(silhouette) == pytest.approx((32.0, 32.0), abs=0.6)
        assert silhouette.sum().item() == pytest.approx(disc, rel=0.15)  # the Gaussians' own width: a pixel


@pytest.mark.parametrize("backend", BACKENDS)
def test_gaussians_behind_the_camera_or_too_faint_are_left_out(backend):
    scene = splats(((0, 0, 1.6), RED, 0.1, 0.9), ((0, 0, 1.5), RED, 0.1, 0.9), ((0, 0, 0), RED, 0.1, 0.003))
    tensors = [scene.means, scene.quats, scene.scales, scene.opacities, scene.colors]
    for tensor in tensors:
        tensor.requires_grad_()
    image = render(scene, view(), backend, background=WHITE)
    assert image.alpha.abs().max() == 0
    (image.color.sum() + image.depth.sum()).backward()
    assert all(tensor.grad is None or not tensor.grad.any() for tensor in tensors)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_scene_without_gaussians_is_background(backend):
    image = render(splats(), view([0.0, 90.0]), backend, background=(0.1, 0.2, 0.3))
    assert image.alpha.abs().max() == 0
    torch.testing.assert_close(image.color[1, 5, 7], torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_batch_of_cameras_equals_them_one_by_one(backend):
    scene = GaussiansConfig(num_points=50).build(torch.Generator().manual_seed(0)).gaussians()
    cameras = view([10.0, 120.0, 300.0], elevation=20.0)
    config = SplatRendererConfig(backend=backend)
    whole = render_gaussians(
        scene, cameras, torch.rand(3, 3, generator=torch.Generator().manual_seed(1)), config=config
    )
    backgrounds = torch.rand(3, 3, generator=torch.Generator().manual_seed(1))
    for index in range(3):
        one = render_gaussians(scene, cameras[index], backgrounds[index : index + 1], config=config)
        assert torch.equal(one.color[0], whole.color[index])
        assert torch.equal(one.depth[0], whole.depth[index])


def test_the_probe_receives_the_gradient_of_the_centres():
    scene = splats(((0.1, 0.05, 0), RED, 0.1, 0.6))
    config = SplatRendererConfig(backend="torch")
    weights = torch.rand(1, 33, 33, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss(probe):
        image = render_gaussians(scene, view(), torch.zeros(1, 3), means2d_probe=probe, config=config)
        return (image.color * weights).sum()

    probe = screen_probe(scene, view())
    loss(probe).backward()
    step = torch.tensor([[[1e-5, 0.0]]], dtype=torch.float64)
    expected = (loss(probe.detach() + step) - loss(probe.detach() - step)) / 2e-5
    # A central difference of step 1e-5 is right to 1e-10 but for pixels that cross the least alpha, here none.
    assert probe.grad[0, 0, 0].item() == pytest.approx(expected.item(), rel=1e-6)


def test_the_backend_follows_the_device():
    assert pick_backend("auto", torch.zeros(1)) == "numba"
    assert pick_backend("auto", torch.zeros(1, device="meta")) == pick_backend("torch", torch.zeros(1)) == "torch"
    for backend, device in {"triton": "cpu", "numba": "meta"}.items():
        with pytest.raises(ValueError, match=f"The.* backend '{backend}' needs"):
            pick_backend(backend, torch.zeros(1, device=device))


def test_a_wrong_number_of_backgrounds_is_told():
    with pytest.raises(ValueError, match="one background colour for each of 2 views"):
        render_gaussians(splats(), view([0.0, 90.0]), torch.ones(1, 3))


def test_importing_the_package_does_not_load_numba():
    import subprocess
    import sys

    code = "import hash3d.rendering, hash3d.representations, sys; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
