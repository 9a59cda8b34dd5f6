"""The hash grid is trilinear interpolation; where a grid has too many corners, of entries that corners share."""

import math
import os
import re

import pytest
import torch
import torch.nn.functional as F

from hash3d import kernels
from hash3d.representations import encodings
from hash3d.representations.encodings import FrequencyConfig, HashGridConfig, corner_entries


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid(**fields):
    """A grid in float64, in PyTorch, whose entries are not small."""
    encoding = HashGridConfig(backend="torch", **fields).build(seeded()).double()
    encoding.table.data = torch.randn(encoding.table.shape, generator=seeded(1), dtype=torch.float64)
    return encoding


SMALL = {"levels": 3, "features": 2, "log2_entries": 9, "base_resolution": 2, "finest_resolution": 6}


def test_the_sides_grow_by_one_factor_from_the_coarsest_to_the_finest():
    resolutions = HashGridConfig().resolutions
    assert (resolutions[0], resolutions[-1], len(resolutions)) == (16, 4096, 16)
    # threestudio's growth, configs/dreamfusion-sd.yaml; floor leaves less than a cell between.
    assert all(0 <= 16 * 1.447269237440378**level - side < 1.01 for level, side in enumerate(resolutions[:-1]))


def test_without_collisions_each_level_is_trilinear_interpolation():
    encoding = grid(**SMALL)
    points = torch.rand(50, 3, generator=seeded(2), dtype=torch.float64)
    expected = []
    for table, side in zip(encoding.table.split(encoding.sizes, dim=1), encoding.config.resolutions, strict=True):
        corners = table.view(1, 2, side + 1, side + 1, side + 1)  # z, y, x: x counts fastest
        sampled = F.grid_sample(corners, (2 * points - 1).view(1, -1, 1, 1, 3), align_corners=True)
        expected.append(sampled.view(2, -1).T)
    torch.testing.assert_close(encoding(points), torch.cat(expected, dim=1))


def test_a_hashed_level_weighs_the_entries_of_the_eight_corners():
    encoding = grid(levels=1, features=1, log2_entries=5, base_resolution=7, finest_resolution=7)
    point = torch.tensor([0.3, 0.81, 0.55], dtype=torch.float64)
    cell, share = (point * 7).floor().long().tolist(), (point * 7).frac().tolist()
    expected = 0.0
    for number in range(8):
        ends = [number >> axis & 1 for axis in range(3)]
        x, y, z = (low + end for low, end in zip(cell, ends, strict=True))
        entry = (x ^ (y * 2_654_435_761 % 2**32) ^ (z * 805_459_861 % 2**32)) % 32
        weight = math.prod(part if end else 1 - part for part, end in zip(share, ends, strict=True))
        expected += weight * encoding.table[0, entry].item()
    assert encoding(point[None]).item() == pytest.approx(expected, abs=1e-12)


def test_at_the_finest_resolution_entries_stay_in_the_table_and_spread_over_it():
    corners = torch.randint(4096, (3, 2, 20_000), generator=seeded(3))
    entries = corner_entries(corners, 4096, 2**10)
    counts = torch.bincount(entries.flatten(), minlength=2**10)
    assert len(counts) == 2**10
    assert counts.min() > 0.5 * counts.double().mean()


@pytest.mark.parametrize("entries", [9, 4])
def test_features_are_continuous_across_cells_and_constant_outside_the_cube(entries):
    encoding = grid(**SMALL | {"log2_entries": entries})
    face = torch.tensor([[0.5, 0.2, 0.9]], dtype=torch.float64)
    step = torch.tensor([[1e-9, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(encoding(face - step), encoding(face + step), atol=1e-7, rtol=0)
    outside = torch.tensor([[1.7, 0.3, -2.0]], dtype=torch.float64)
    torch.testing.assert_close(encoding(outside), encoding(outside.clamp(0, 1)))


def test_the_last_corner_of_the_cube_has_the_last_entry():
    encoding = grid(**SMALL)
    expected = torch.cat([table[:, -1] for table in encoding.table.split(encoding.sizes, dim=1)])
    torch.testing.assert_close(encoding(torch.ones(1, 3, dtype=torch.float64))[0], expected)


def test_first_and_second_derivatives_agree_with_finite_differences():
    encoding = grid(levels=2, features=1, log2_entries=4, base_resolution=2, finest_resolution=3)
    # Away from the cells' faces, where the gradient jumps.
    points = torch.tensor([[0.21, 0.4, 0.83], [0.6, 0.57, 0.1]], dtype=torch.float64, requires_grad=True)
    table = encoding.table.detach().clone().requires_grad_()

    def encode(places, entries):
        return torch.func.functional_call(encoding, {"table": entries}, places)

    assert torch.autograd.gradcheck(encode, (points, table))
    assert torch.autograd.gradgradcheck(encode, (points, table))


@pytest.mark.parametrize("name", ["fits", "hashed", "frequencies"])
def test_the_backward_pass_is_the_gradient_of_the_features(name):
    encoding = FrequencyConfig(num_frequencies=3).build(seeded()).double()
    if name != "frequencies":
        encoding = grid(**SMALL | {"log2_entries": {"fits": 9, "hashed": 4}[name]}, start_level=2)
    # Some lie outside, where the gradient along that axis is 0.
    points = 1.4 * torch.rand(40, 3, generator=seeded(2), dtype=torch.float64) - 0.2
    points = torch.cat([points, torch.eye(3).double()]).requires_grad_()
    cotangents = torch.randn(43, encoding.num_features, generator=seeded(3), dtype=torch.float64, requires_grad=True)
    features, backward = encoding.forward_and_backward(points)
    (expected,) = torch.autograd.grad(encoding(points), points, cotangents, create_graph=True)
    gradient = backward(cotangents)
    assert torch.equal(features, encoding(points))
    torch.testing.assert_close(gradient, expected)
    inputs = [points, cotangents, *encoding.parameters()]
    vectors = torch.randn(43, 3, generator=seeded(4), dtype=torch.float64)
    wanted = torch.autograd.grad(expected, inputs, vectors)
    for found, derivative in zip(torch.autograd.grad(gradient, inputs, vectors), wanted, strict=True):
        torch.testing.assert_close(found, derivative)


def test_levels_are_switched_on_over_the_steps_and_the_others_are_zero():
    config = HashGridConfig(**SMALL | {"levels": 5, "log2_entries": 6}, start_level=2, start_step=100, update_steps=50)
    assert [config.active_levels(step) for step in (0, 100, 149, 150, 200, 249, 250, 9999)] == [2, 2, 2, 3, 4, 4, 5, 5]
    encoding = config.build(seeded())
    points = torch.rand(20, 3, generator=seeded(2))
    shown = {step: encoding.set_step(step) or encoding(points) for step in (0, 150, 250)}
    for step, levels in ((0, 2), (150, 3), (250, 5)):
        assert (shown[step] != 0).any(dim=0).tolist() == [True] * 2 * levels + [False] * 2 * (5 - levels)
        assert torch.equal(shown[step][:, : 2 * levels], shown[250][:, : 2 * levels])


def test_a_level_that_is_off_does_not_learn():
    encoding = HashGridConfig(**SMALL, start_level=1).build(seeded())
    encoding(torch.rand(40, 3, generator=seeded(2))).sum().backward()
    on, *off = encoding.table.grad.split(encoding.sizes, dim=1)
    assert on.abs().sum() > 0
    assert all(level.abs().sum() == 0 for level in off)


def test_a_checkpoint_brings_its_levels():
    stored = HashGridConfig(**SMALL, start_level=1, start_step=0, update_steps=10).build(seeded())
    stored.set_step(10)
    loaded = HashGridConfig(**SMALL, start_level=1).build(seeded(5))
    loaded.load_state_dict(stored.state_dict())
    points = torch.rand(9, 3, generator=seeded(2))
    assert torch.equal(loaded(points), stored(points))


def test_no_points_give_no_features():
    for encoding in (HashGridConfig(**SMALL).build(seeded()), FrequencyConfig().build(seeded())):
        features, backward = encoding.forward_and_backward(torch.zeros(0, 3))
        assert features.shape == (0, encoding.num_features)
        assert backward(features).shape == (0, 3)


def test_tritons_kernels_are_refused_where_they_cannot_run():
    encoding = HashGridConfig(**SMALL, backend="triton").build(seeded())
    with pytest.raises(ValueError, match="needs float32 on cuda"):
        encoding(torch.rand(2, 3))


def test_frequencies_are_sines_and_cosines_of_the_octaves():
    encoding = FrequencyConfig(num_frequencies=3).build(seeded())
    point = torch.tensor([[0.6, 0.1, 0.9]])
    x = [0.2, -0.8, 0.8]
    angles = [2**k * math.pi * value for k in range(3) for value in x]
    expected = [*x, *map(math.sin, angles), *map(math.cos, angles)]
    assert encoding.num_features == len(expected)
    assert encoding(point)[0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"levels": 0}, "levels at least 1, but got 0"),
        ({"update_steps": 0}, "update_steps at least 1, but got 0"),
        ({"finest_resolution": 8}, "finest_resolution at least 16, but got 8"),
        ({"start_level": 17}, "start_level at least 1 and at most 16, but got 17"),
        ({"start_level": 0}, "start_level at least 1 and at most 16, but got 0"),
    ],
)
def test_impossible_grids_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        HashGridConfig(**wrong)


def test_a_frequency_is_needed():
    with pytest.raises(ValueError, match="Expected num_frequencies at least 1, but got 0"):
        FrequencyConfig(num_frequencies=0)


@pytest.mark.gpu
@pytest.mark.parametrize("count", [0, 300])
def test_the_kernel_of_sines_and_cosines_equals_the_reference(count, monkeypatch):
    """On a GPU, or with TRITON_INTERPRET=1 on a CPU; a gradient of the points is still PyTorch's."""
    device = "cuda"
    if os.environ.get("TRITON_INTERPRET") == "1":
        device = "cpu"
        for module in (encodings, kernels):
            monkeypatch.setattr(module, "uses_triton", lambda backend, like: backend != "torch")
    encoding = FrequencyConfig(backend="triton").build(seeded()).to(device)
    points = torch.rand(count, 3, generator=seeded(1)).to(device)
    expected = FrequencyConfig(backend="torch").build(seeded()).to(device, torch.float64)(points.double())
    # Angles of up to 32 pi are rounded in float32.
    torch.testing.assert_close(encoding(points).double(), expected, atol=1e-5, rtol=0)
    assert encoding(points).T.is_contiguous()
    assert encoding(points.requires_grad_()).requires_grad
