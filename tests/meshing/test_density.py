"""A cloud of Gaussians as a field, against the sum written out and against ellipsoids."""

import math

import pytest
import torch
import trimesh

from hash3d.meshing.density import MIN_OPACITY, NEGLIGIBLE, GaussianField
from hash3d.meshing.isosurface import IsosurfaceConfig, extract_mesh
from hash3d.rendering._torch_splat import rotation_matrices
from hash3d.representations.gaussians import GaussianTensors


def cloud(count: int, seed: int = 0) -> GaussianTensors:
    generator = torch.Generator().manual_seed(seed)
    return GaussianTensors(
        means=torch.rand(count, 3, generator=generator) - 0.5,
        quats=torch.randn(count, 4, generator=generator),
        scales=0.01 + 0.1 * torch.rand(count, 3, generator=generator),
        opacities=torch.rand(count, generator=generator),
        colors=torch.rand(count, 3, generator=generator),
    )


def one(opacity=0.9, scales=(0.1, 0.1, 0.1), quat=(1.0, 0.0, 0.0, 0.0), mean=(0.0, 0.0, 0.0)) -> GaussianTensors:
    return GaussianTensors(
        means=torch.tensor([mean]),
        quats=torch.tensor([quat]),
        scales=torch.tensor([scales]),
        opacities=torch.tensor([opacity]),
        colors=torch.tensor([[0.2, 0.4, 0.8]]),
    )


def written_out(gaussians: GaussianTensors, points: torch.Tensor) -> torch.Tensor:
    """What each Gaussian adds at each point, "N M", from its covariance in float64."""
    axes = rotation_matrices(gaussians.quats.double()) * gaussians.scales.double()[:, None]
    inverse = torch.linalg.inv(axes @ axes.transpose(1, 2))
    offsets = points.double()[:, None] - gaussians.means.double()
    squared = torch.einsum("nmi,mij,nmj->nm", offsets, inverse, offsets)
    opacities = gaussians.opacities.double()
    return torch.where(opacities > MIN_OPACITY, opacities * torch.exp(-0.5 * squared), 0.0)


def test_the_density_is_the_sum_of_all_gaussians():
    gaussians, generator = cloud(300), torch.Generator().manual_seed(1)
    field = GaussianField(gaussians)
    points = 1.4 * torch.rand(3000, 3, generator=generator) - 0.7
    expected = written_out(gaussians, points).sum(dim=-1)
    # Scattered points reach all Gaussians; what is left is float32 at d^2 of tens.
    torch.testing.assert_close(field.density(points).double(), expected, atol=1e-4, rtol=1e-5)
    together = 0.05 * points
    near = written_out(gaussians, together)
    missing = near.sum(dim=-1) - field.density(together)
    assert (missing < (near < NEGLIGIBLE).sum(dim=-1) * NEGLIGIBLE + 1e-4).all()
    assert (missing > -1e-4).all()


def test_the_box_is_where_a_turned_gaussian_adds_a_thousandth():
    """On the ellipsoid d^2 = 2 ln(opacity / NEGLIGIBLE), whose extent along an axis is d times its deviation there."""
    gaussians = one(scales=(0.3, 0.1, 0.02), quat=(0.8, 0.3, -0.2, 0.5), mean=(0.1, 0.2, -0.3))
    axes = rotation_matrices(gaussians.quats)[0] * gaussians.scales[0]
    extent = math.sqrt(2 * math.log(0.9 / NEGLIGIBLE)) * (axes @ axes.T).diagonal().sqrt()
    expected = gaussians.means + torch.stack([-extent, extent])
    torch.testing.assert_close(GaussianField(gaussians).box, expected)


def test_thin_gaussians_far_from_the_origin_keep_their_shape():
    gaussians = one(scales=(1e-3, 0.1, 0.1), mean=(3.0, -2.0, 1.0))
    points = gaussians.means + torch.linspace(-3e-3, 3e-3, 50)[:, None] * torch.tensor([1.0, 0.0, 0.0])
    expected = written_out(gaussians, points).sum(dim=-1)
    # Positions of about 3 in float32 are right to 1e-7, which is 2e-4 of the Gaussian's width.
    torch.testing.assert_close(GaussianField(gaussians).density(points).double(), expected, atol=1e-3, rtol=0)


def test_the_surface_of_one_gaussian_is_its_ellipsoid():
    half = math.sqrt(0.5)
    gaussians = one(scales=(0.05, 0.1, 0.2), quat=(half, 0.0, 0.0, half))  # a quarter turn about z: x goes to y
    field = GaussianField(gaussians)
    mesh = extract_mesh(field.density, field.box, IsosurfaceConfig(level=0.3, resolution=40))
    axes = torch.tensor([0.1, 0.05, 0.2]) * math.sqrt(2 * math.log(0.9 / 0.3))
    torch.testing.assert_close(mesh.vertices.amax(dim=0), axes, rtol=0.01, atol=0)
    volume = trimesh.Trimesh(mesh.vertices.numpy(), mesh.faces.numpy()).volume
    assert volume == pytest.approx(4 / 3 * math.pi * axes.prod().item(), rel=0.01)


def test_the_box_ends_where_the_last_gaussian_is_negligible():
    field = GaussianField(one(opacity=0.5, scales=(0.05, 0.1, 0.2)))
    for axis in range(3):
        edge = torch.zeros(1, 3)
        edge[0, axis] = field.box[1, axis]
        assert written_out(one(opacity=0.5, scales=(0.05, 0.1, 0.2)), edge).item() == pytest.approx(
            NEGLIGIBLE, rel=1e-3
        )
    assert torch.equal(field.box[0], -field.box[1])


def test_the_colour_is_the_weighted_mean_and_beyond_all_reach_the_nearest():
    gaussians = cloud(200)
    points = torch.rand(400, 3, generator=torch.Generator().manual_seed(2)) - 0.5
    weights = written_out(gaussians, points)
    expected = weights @ gaussians.colors.double() / weights.sum(dim=-1, keepdim=True)
    torch.testing.assert_close(GaussianField(gaussians).color(points).double(), expected, atol=1e-3, rtol=0)
    far = torch.tensor([[9.0, 0.0, 0.0], [0.0, -9.0, 0.0]])
    kept = gaussians.opacities > MIN_OPACITY
    nearest = torch.cdist(far, gaussians.means[kept]).argmin(dim=-1)
    torch.testing.assert_close(GaussianField(gaussians).color(far), gaussians.colors[kept][nearest])


def test_no_gradient_and_no_points():
    gaussians = cloud(5)
    gaussians.means.requires_grad_()
    field = GaussianField(gaussians)
    assert not field.density(torch.zeros(2, 3)).requires_grad
    assert field.density(torch.zeros(0, 3)).shape == (0,)
    assert field.color(torch.zeros(0, 3)).shape == (0, 3)


def test_faint_gaussians_do_not_count():
    with pytest.raises(ValueError, match="none has"):
        GaussianField(one(opacity=MIN_OPACITY))
