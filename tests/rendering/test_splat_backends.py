"""The reference implementation passes gradcheck; every other backend equals it, in values and in gradients."""

import math

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.rendering._torch_splat import composite, jacobian_limits, project
from hash3d.rendering.splat import SplatRendererConfig, render_gaussians, screen_probe
from hash3d.representations.gaussians import GaussianTensors

NAMES = ("means", "quats", "scales", "opacities", "colors", "background", "probe")


def scene(count: int, dtype: torch.dtype, kind: str, device: str = "cpu") -> GaussianTensors:
    """Random Gaussians: faint "fog", mostly opaque "solid", or "wide", where some lie beyond the image's edge."""
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    low, high, spread = {"fog": (0.05, 0.3, 0.8), "solid": (0.3, 1.0, 0.8), "wide": (0.3, 1.0, 5.0)}[kind]
    tensors = (
        (uniform(count, 3) - 0.5) * spread,
        torch.randn(count, 4, generator=generator, dtype=torch.float64),
        0.02 + 0.1 * uniform(count, 3),
        low + (high - low) * uniform(count),
        uniform(count, 3),
    )
    means, quats, scales, opacities, colors = (tensor.to(device, dtype).requires_grad_() for tensor in tensors)
    return GaussianTensors(means=means, quats=quats, scales=scales, opacities=opacities, colors=colors)


def cameras(size: int) -> Cameras:
    return Cameras.orbit(elevation=[10.0, -40.0], azimuth=[20.0, 200.0], radius=1.5, fov_y=49.1, size=size)


def image_and_gradients(backend: str, splats: GaussianTensors, size: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Colour, alpha and depth as one tensor, and the gradients of `NAMES` under fixed random cotangents."""
    generator = torch.Generator().manual_seed(1)
    background = torch.rand(2, 3, generator=generator, dtype=torch.float64).to(splats.means).requires_grad_()
    probe = screen_probe(splats, cameras(size))
    config = SplatRendererConfig(backend=backend)
    render = render_gaussians(splats, cameras(size), background, means2d_probe=probe, config=config)
    image = torch.cat([render.color, render.alpha, render.depth], dim=-1)
    cotangents = torch.randn(image.shape, generator=generator, dtype=torch.float64).to(image)
    leaves = [splats.means, splats.quats, splats.scales, splats.opacities, splats.colors, background, probe]
    for leaf in leaves:
        leaf.grad = None
    (image * cotangents).sum().backward()
    return image.detach(), [leaf.grad for leaf in leaves]


def test_the_references_gradient_is_that_of_its_values():
    """Few wide Gaussians on 8 x 8 pixels, far from both thresholds, which are not differentiable."""
    splats = scene(4, torch.float64, "fog")
    inputs = [splats.means, splats.quats, splats.scales.detach().add(0.5).requires_grad_(), splats.opacities]
    config = SplatRendererConfig(backend="torch", min_alpha=1e-9)

    def image(means, quats, scales, opacities, colors, background):
        tensors = GaussianTensors(means=means, quats=quats, scales=scales, opacities=opacities, colors=colors)
        render = render_gaussians(tensors, cameras(8)[0], background, config=config)
        return render.color, render.alpha, render.depth

    background = torch.full((1, 3), 0.3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(image, (*inputs, splats.colors, background))


def test_the_clamped_jacobian_has_the_right_gradient():
    """Off-axis centres beyond 1.3 times the field of view, where the ray in the Jacobian is constant."""
    splats = scene(6, torch.float64, "wide")
    camera, config = cameras(8)[0], SplatRendererConfig()
    viewmat, intrinsic = camera.viewmats[0].double(), camera.K[0].double()

    def ellipses(means, quats, scales):
        tensors = GaussianTensors(
            means=means, quats=quats, scales=scales, opacities=splats.opacities, colors=splats.colors
        )
        projection = project(tensors, viewmat, intrinsic, (8, 8), config)
        return projection.means2d, projection.conics, projection.depths

    assert torch.autograd.gradcheck(ellipses, (splats.means, splats.quats, splats.scales))


def test_rays_are_clamped_at_1_3_times_the_half_field_of_view():
    reach = 1.3 * math.tan(math.radians(49.1 / 2))
    assert jacobian_limits(cameras(8).K[0], (8, 8)) == pytest.approx([-reach, reach] * 2)


def test_one_gaussian_lets_a_thousandth_of_the_light_through():
    means2d, conic = torch.full((1, 2), 0.5).double(), torch.tensor([[1.0, 0.0, 1.0]]).double()
    opacity, values = torch.ones(1).double(), torch.ones(1, 4).double()
    pixel = composite(means2d, means2d, conic, opacity, values, torch.zeros(3).double(), 1 / 255, 1e-4)[0]
    torch.testing.assert_close(pixel, torch.full_like(pixel, 0.999))


def test_a_pixel_ends_before_the_gaussian_that_would_close_it():
    """Alphas 0.9 leave 0.1, 0.01, 0.001, then 1e-4 with rounding aside: 0.95 leaves less, so it is not added."""
    opacities = torch.tensor([0.9, 0.9, 0.9, 0.95, 0.5], dtype=torch.float64)
    values = torch.eye(5, 4, dtype=torch.float64)
    means2d, conics = torch.full((5, 2), 0.5).double(), torch.tensor([[1.0, 0.0, 1.0]]).double().repeat(5, 1)
    pixel = composite(means2d[:1], means2d, conics, opacities, values, torch.zeros(3).double(), 1 / 255, 1e-4)[0]
    expected = torch.tensor([0.9, 0.09, 0.009, 0.0, 0.999], dtype=torch.float64)
    torch.testing.assert_close(pixel, expected)


@pytest.mark.nightly
@pytest.mark.parametrize("kind", ["fog", "solid", "wide"])
@pytest.mark.parametrize("size", [16, 45])
def test_numba_equals_the_reference_in_float64(kind, size):
    splats = scene(150, torch.float64, kind)
    expected, expected_gradients = image_and_gradients("torch", splats, size)
    image, gradients = image_and_gradients("numba", splats, size)
    torch.testing.assert_close(image, expected, atol=1e-12, rtol=0)  # the same sums in another order
    for name, gradient, wanted in zip(NAMES, gradients, expected_gradients, strict=True):
        # The reference divides products of transmittances, the kernel subtracts from the light still to come.
        error = (gradient - wanted).abs().max() / wanted.abs().max()
        assert error < 1e-10, (name, float(error))


@pytest.mark.parametrize("kind", ["fog", "solid", "wide"])
def test_numba_equals_the_reference_in_float32(kind):
    splats, exact = scene(150, torch.float32, kind), scene(150, torch.float64, kind)
    expected, expected_gradients = image_and_gradients("torch", exact, 45)
    image, gradients = image_and_gradients("numba", splats, 45)
    # Rounding may move a Gaussian across the least alpha at a few pixels, which is a step of 1/255 there.
    differences = (image.double() - expected).abs().flatten()
    assert differences.quantile(0.99) < 2e-5  # float32, some tens of Gaussians a pixel
    assert differences.max() < 2 * 1.5 / 255
    for name, gradient, wanted in zip(NAMES, gradients, expected_gradients, strict=True):
        error = (gradient.double() - wanted).norm() / wanted.norm()
        assert error < 2e-3, (name, float(error))  # thousands of pixel terms of both signs, and those steps


def test_numba_gives_the_same_bits_for_any_number_of_threads():
    splats = scene(150, torch.float32, "solid")
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        image, gradients = image_and_gradients("numba", splats, 45)
    finally:
        torch.set_num_threads(threads)
    again, gradients_again = image_and_gradients("numba", splats, 45)
    assert torch.equal(image, again)
    assert all(torch.equal(one, other) for one, other in zip(gradients, gradients_again, strict=True))
