"""Ray marching: steps fill each ray's chord of the cube, and occupancy culls those in empty cells."""

import math

import pytest
import torch

from hash3d.rendering.march import Rays, camera_rays, march
from hash3d.representations.occupancy import OccupancyGridConfig
from tests.fields import DTYPE, view


def one_ray(origin, direction, shift=0.5):
    direction = torch.nn.functional.normalize(torch.tensor([direction], dtype=DTYPE), dim=-1)
    origins = torch.tensor([origin], dtype=DTYPE)
    return Rays(torch.zeros(1, dtype=torch.int64), origins, direction, torch.tensor([shift], dtype=DTYPE))


@pytest.mark.parametrize("shift", [0.0, 0.25, 1.0])
def test_a_ray_is_cut_into_steps_and_the_last_ends_at_the_face(shift):
    steps = march(one_ray((0.0, 0.0, 3.0), (0.0, 0.0, -1.0), shift), 1.0, 0.75)
    assert steps.lengths.tolist() == [0.75, 0.75, 0.5]
    starts = torch.tensor([2.0, 2.75, 3.5], dtype=DTYPE)
    assert torch.equal(steps.distances, starts + shift * steps.lengths)
    assert torch.equal(steps.points[:, 2], 3.0 - steps.distances)


def test_a_ray_from_inside_begins_at_its_origin():
    steps = march(one_ray((0.5, 0.0, 0.0), (1.0, 0.0, 0.0)), 1.0, 1.0)
    assert steps.lengths.tolist() == [0.5]
    assert steps.distances.tolist() == [0.25]


@pytest.mark.parametrize(
    ("origin", "direction"),
    [((0.0, 0.0, 3.0), (0.0, 0.0, 1.0)), ((0.0, 1.5, 3.0), (0.0, 0.0, -1.0)), ((1.0, 0.0, 3.0), (0.0, 0.0, -1.0))],
    ids=["behind", "beside", "in a face"],
)
def test_a_ray_that_does_not_enter_the_cube_has_no_steps(origin, direction):
    assert len(march(one_ray(origin, direction), 1.0, 0.1)) == 0


def test_steps_are_sorted_by_ray_and_cover_each_chord():
    rays = camera_rays(view([0.0, 70.0], [0.0, 40.0], size=9), torch.zeros(1, dtype=DTYPE), None)
    steps = march(rays, 0.6, 0.05)
    order = steps.rays * 100.0 + steps.distances
    assert (order.diff() > 0).all()
    chords = torch.zeros(len(rays), dtype=DTYPE).index_add(0, steps.rays, steps.lengths)
    crossings = torch.stack([-0.6 - rays.origins, 0.6 - rays.origins]) / rays.directions
    expected = (crossings.amax(dim=0).amin(dim=-1) - crossings.amin(dim=0).amax(dim=-1)).clamp(min=0.0)
    torch.testing.assert_close(chords, expected)
    assert chords.max() < 0.6 * 2 * math.sqrt(3)
    assert torch.equal(steps.bounds(len(rays)), torch.searchsorted(steps.rays, torch.arange(len(rays) + 1)))


def test_occupancy_culls_the_samples_in_empty_cells():
    rays = camera_rays(view(20.0, 30.0, size=9), torch.zeros(1, dtype=DTYPE), torch.Generator().manual_seed(0))
    grid = OccupancyGridConfig(resolution=4).build(0.6)
    grid.occupied = torch.rand(64, generator=torch.Generator().manual_seed(1)) < 0.5
    whole, culled = march(rays, 0.6, 0.05), march(rays, 0.6, 0.05, grid)
    kept = grid.contains(whole.points)
    assert 0 < kept.sum() < len(kept)
    assert torch.equal(culled.points, whole.points[kept])
    assert torch.equal(culled.rays, whole.rays[kept])
