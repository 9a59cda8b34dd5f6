"""The kernels of a hash grid equal the reference implementation in float64: features, first and second derivatives.

Numba's on a CPU. Triton's on a GPU, or with TRITON_INTERPRET=1 on a CPU:
`TRITON_INTERPRET=1 python -m pytest -m gpu` and this file.
"""

import dataclasses
import os

import pytest
import torch

import hash3d.kernels
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import HashGridNerfConfig

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
GRIDS = {
    "fits": HashGridConfig(levels=3, log2_entries=10, base_resolution=2, finest_resolution=8),
    "hashed": HashGridConfig(levels=3, log2_entries=5, base_resolution=2, finest_resolution=64),
    "some levels": HashGridConfig(levels=4, log2_entries=7, base_resolution=3, finest_resolution=16, start_level=2),
    "one feature": HashGridConfig(levels=1, features=1, log2_entries=4, base_resolution=4, finest_resolution=4),
    "four features": HashGridConfig(levels=2, features=4, log2_entries=6, base_resolution=2, finest_resolution=5),
}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(params=["numba", pytest.param("triton", marks=pytest.mark.gpu)])
def kernels(request, monkeypatch):
    """The backend that chooses some kernels, and their device; Triton's interpreter takes tensors on the CPU."""
    if request.param == "numba":
        return "auto", "cpu"
    if INTERPRETED:
        monkeypatch.setattr(
            hash3d.kernels, "uses_triton", lambda backend, like: backend != "torch" and like.dtype == torch.float32
        )
    return "triton", DEVICE


def pair(config: HashGridConfig, kernels):
    """The reference in float64 and the kernels in float32, with the same entries, which are not small."""
    backend, device = kernels
    exact = dataclasses.replace(config, backend="torch").build(seeded())
    exact.table.data = torch.randn(exact.table.shape, generator=seeded(1))
    fast = dataclasses.replace(config, backend=backend).build(seeded())
    fast.load_state_dict(exact.state_dict())
    return exact.double().to(device), fast.to(device)


def places(count: int = 301) -> torch.Tensor:
    """Points inside the cube, on faces and corners of it and of cells (where float32 is exact), and outside."""
    inside = torch.rand(count, 3, generator=seeded(2))
    special = torch.tensor([[0.0, 0.0, 0.0], [1.0, 1.0, 1.0], [0.5, 0.25, 1.0], [1.5, 0.3, -0.1], [-2.0, 0.7, 0.5]])
    return torch.cat([inside, special])


def assert_near(found: torch.Tensor, expected: torch.Tensor, scale: float) -> None:
    """`scale` is the largest number that float32 rounds on the way: 1e-6 is some tens of its roundings."""
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, atol=1e-6 * scale, rtol=1e-5)


def randn(shape, like: torch.Tensor, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=seeded(seed)).to(like)


@pytest.mark.parametrize("name", GRIDS)
def test_features_and_first_derivatives_equal_the_reference(name, kernels):
    results = []
    for grid in pair(GRIDS[name], kernels):
        points = places().to(grid.table).requires_grad_()
        features = grid(points)
        features.backward(randn(features.shape, features, 3))
        results.append((features.detach(), points.grad, grid.table.grad))
    (features, by_points, by_table), (found, found_by_points, found_by_table) = results
    finest = GRIDS[name].finest_resolution
    # A share of a cell is rounded at `finest` times the coordinate, hence `finest` times the usual error.
    assert_near(found, features, finest)
    assert_near(found_by_table, by_table, 4 * finest)  # sums over up to some hundred points
    assert_near(found_by_points, by_points, 4 * finest**2)  # gradients are `finest` times as large


@pytest.mark.parametrize("name", GRIDS)
def test_the_backward_pass_and_its_derivatives_equal_the_reference(name, kernels):
    results = []
    for grid in pair(GRIDS[name], kernels):
        points = places().to(grid.table).requires_grad_()
        cotangents = randn((len(points), grid.num_features), grid.table, 3).requires_grad_()
        gradient = grid.forward_and_backward(points)[1](cotangents)
        gradient.backward(randn(gradient.shape, gradient, 4))
        results.append((gradient.detach(), cotangents.grad, grid.table.grad, points.grad))
    finest = GRIDS[name].finest_resolution
    scales = (finest**2, finest**2, 4 * finest**2, finest**3)
    for found, expected, scale in zip(*reversed(results), scales, strict=True):
        assert_near(found, expected, 4 * scale)


def test_a_further_derivative_is_refused(kernels):
    _, grid = pair(GRIDS["fits"], kernels)
    points = places().to(grid.table)
    cotangents = randn((len(points), grid.num_features), grid.table, 3).requires_grad_()
    gradient = grid.forward_and_backward(points)[1](cotangents)
    for what, result in (("gradient", gradient), ("features", grid(points))):
        with pytest.raises(RuntimeError, match=f"Expected no further derivative of the hash grid's {what}"):
            torch.autograd.grad(result.sum(), grid.table, create_graph=True)


def test_shared_entries_are_summed_in_any_order_of_the_points(kernels):
    """Points along rays, which share cells with those before them, and the same points mixed."""
    _, grid = pair(GRIDS["hashed"], kernels)
    points = (places(37)[:37, None] + torch.linspace(0.0, 0.1, 20)[:, None]).flatten(0, 1).to(grid.table)
    above, order = randn((len(points), grid.num_features), grid.table, 3), torch.randperm(740, generator=seeded(4))
    sums = []
    for rows in (slice(None), order.to(points.device)):
        (found,) = torch.autograd.grad(grid(points[rows]), grid.table, above[rows])
        sums.append(found.double())
    assert_near(sums[0].float(), sums[1], 4 * 64)


def test_no_points_give_no_features_and_no_gradient(kernels):
    _, grid = pair(GRIDS["fits"], kernels)
    features, backward = grid.forward_and_backward(torch.zeros(0, 3, device=kernels[1]))
    assert features.shape == (0, grid.num_features)
    (features.sum() + backward(features).sum()).backward()
    assert grid.table.grad.abs().max() == 0


@pytest.mark.parametrize("hidden_layers", [1, 2])
@pytest.mark.parametrize("activation", ["softplus", "trunc_exp"])
def test_a_field_has_the_references_normals_and_learns_as_it_does(activation, hidden_layers, kernels):
    (fast, device), results = kernels, []
    for backend, dtype in (("torch", torch.float64), (fast, torch.float32)):
        encoding = dataclasses.replace(GRIDS["some levels"], backend=backend)
        config = HashGridNerfConfig(
            encoding=encoding, radius=1.0, density_activation=activation, blob_scale=1.0, hidden_layers=hidden_layers
        )
        field = config.build(seeded()).to(device, dtype)
        field.encoding.table.data.mul_(1e4)
        points = (2 * places() - 1).to(field.encoding.table)
        found = field.query(points, normals=True)
        columns = (found.density[:, None], found.color, found.normal, field.normals(0.9 * points))
        sum((column * randn(column.shape, column, 6)).sum() for column in columns).backward()
        results.append([*(column.detach() for column in columns), *(each.grad for each in field.parameters())])
    # Normals divide by the gradient, which is small at some of the points; float32 through two small networks, of which
    # Triton's round what they multiply to 10 bits after the point; a colour network of two hidden layers is float16.
    error = 1e-4 if fast == "auto" else {1: 5e-3, 2: 5e-2}[hidden_layers]
    for expected, found in zip(*results, strict=True):
        assert (found.double() - expected).norm() < error * expected.norm()
