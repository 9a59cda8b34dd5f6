"""The grid must know where the field is dense, forget slowly, and never hide what was never looked at."""

import math
import re

import pytest
import torch

from hash3d.representations.nerf import FieldSamples
from hash3d.representations.occupancy import OccupancyGridConfig


class Half:
    """Dense where x > 0, in a cube of half side 2."""

    radius, channels = 2.0, 3
    strength = 5.0
    asked = 0

    def density(self, points):
        self.asked = len(points)
        return self.strength * (points[:, 0] > 0).to(points)

    def query(self, points, *, normals=False):
        return FieldSamples(density=self.density(points), color=torch.ones_like(points))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(count: int = 500) -> torch.Tensor:
    return 4 * torch.rand(count, 3, generator=seeded(1)) - 2


def test_before_its_first_update_everything_inside_is_occupied_and_nothing_outside():
    grid = OccupancyGridConfig(resolution=4).build(2.0)
    assert grid.contains(points()).all()
    assert not grid.contains(torch.tensor([[2.1, 0.0, 0.0], [0.0, -2.1, 0.0], [0.0, 0.0, 5.0]])).any()
    assert grid.contains(torch.tensor([[2.0, -2.0, 2.0]])).all(), "the faces belong to the cube"


def test_after_an_update_the_dense_half_is_occupied():
    grid = OccupancyGridConfig(resolution=4).build(2.0)
    grid.update(Half(), 0.1, seeded())
    torch.testing.assert_close(grid.contains(points()), points()[:, 0] > 0)
    assert grid.alphas.max().item() == pytest.approx(1 - math.exp(-0.5), rel=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_single_dense_cell_is_found_in_its_place(axis):
    place = torch.tensor([-0.5, -0.5, -0.5])
    place[axis] = 1.5

    class Cell(Half):
        def density(self, at):
            return 50.0 * ((at - place).abs().amax(dim=-1) < 0.5).to(at)

    grid = OccupancyGridConfig(resolution=4).build(2.0)
    grid.update(Cell(), 0.1, seeded())
    assert grid.occupied.sum() == 1
    assert grid.contains(place)
    assert not grid.contains(place.roll(1))


@pytest.mark.parametrize(("cell", "count"), [((1, 2, 1), 7), ((0, 3, 2), 5)])
def test_a_grid_grows_to_the_cells_that_share_a_face_and_not_round_its_border(cell, count):
    grid = OccupancyGridConfig(resolution=4).build(2.0)
    places = torch.cartesian_prod(*[torch.arange(4)] * 3)
    ways = (places - torch.tensor(cell)).abs().sum(dim=-1)
    grid.occupied = ways == 0
    grid.grow()
    assert torch.equal(grid.occupied, ways <= 1)
    assert grid.occupied.sum() == count


def test_a_cell_rises_at_once_and_falls_by_the_decay():
    grid, field = OccupancyGridConfig(resolution=2, decay=0.5).build(2.0), Half()
    grid.update(field, 0.1, seeded())
    peak = grid.alphas.max().item()
    field.strength = 0.0
    for share in (0.5, 0.25):
        grid.update(field, 0.1, seeded())
        assert grid.alphas.max().item() == pytest.approx(share * peak)
    field.strength = 5.0
    grid.update(field, 0.1, seeded())
    assert grid.alphas.max().item() == pytest.approx(peak)


def test_the_threshold_is_the_mean_where_all_is_faint():
    grid, field = OccupancyGridConfig(resolution=2, threshold=0.01).build(2.0), Half()
    field.strength = 0.02
    grid.update(field, 0.1, seeded())
    faint = 1 - math.exp(-0.002)
    assert grid.min_alpha.item() == pytest.approx(faint / 2, rel=1e-4)
    assert grid.occupied.sum() == 4
    field.strength = 5.0
    grid.update(field, 0.1, seeded())
    assert grid.min_alpha.item() == pytest.approx(0.01)


def test_a_cell_above_the_threshold_is_occupied_however_dense_the_others_are():
    grid, field = OccupancyGridConfig(resolution=4, threshold=0.01).build(2.0), Half()
    field.density = lambda at: torch.where(at[:, 0] > 0, 50.0, 0.2 * (at[:, 1] > 0))  # alphas of 0.99, 0.02 and 0
    grid.update(field, 0.1, seeded())
    torch.testing.assert_close(grid.contains(points()), (points()[:, 0] > 0) | (points()[:, 1] > 0))


def test_updates_come_at_their_steps_and_later_ones_look_at_fewer_cells():
    grid, field = OccupancyGridConfig(resolution=8, update_every=4, warmup_steps=8).build(2.0), Half()
    looks = []
    for step in range(13):
        field.asked = 0
        grid.after_step(step, field, 0.1, seeded(step))
        looks.append(field.asked)
    assert looks == [512, 0, 0, 0, 512, 0, 0, 0, 256, 0, 0, 0, 256]


def test_later_updates_keep_what_is_there_and_find_what_is_new():
    grid, field = OccupancyGridConfig(resolution=4).build(2.0), Half()
    grid.update(field, 0.1, seeded())
    field.density = lambda at: 5.0 * (at[:, 1] > 0).to(at)
    generator = seeded(2)
    for _ in range(500):  # 0.39 falls below 0.01 after 72 looks, and a cell of 64 is looked at in 1 of 4 updates
        grid.update(field, 0.1, generator, every_cell=False)
    torch.testing.assert_close(grid.contains(points()), points()[:, 1] > 0)
    assert grid.alphas.max().item() == pytest.approx(1 - math.exp(-0.5), rel=1e-5), "two looks do not add up"


def test_a_cell_that_was_not_looked_at_forgets_nothing():
    grid, field = OccupancyGridConfig(resolution=4).build(2.0), Half()
    grid.update(field, 0.1, seeded())
    peak = grid.alphas.max().item()
    field.strength = 0.0
    grid.update(field, 0.1, seeded(), every_cell=False)
    dense = grid.alphas[grid.alphas > 0] / peak
    assert set(dense.mul(100).round().tolist()) == {95.0, 100.0}


def test_a_later_update_of_an_empty_grid_looks_anywhere():
    grid, field = OccupancyGridConfig(resolution=4).build(2.0), Half()
    field.strength = 0.0
    grid.update(field, 0.1, seeded())
    assert not grid.occupied.any()
    field.strength = 5.0
    grid.update(field, 0.1, seeded(), every_cell=False)
    assert grid.occupied.any()


def test_the_state_round_trips():
    stored, loaded = (OccupancyGridConfig(resolution=4).build(2.0) for _ in range(2))
    stored.update(Half(), 0.1, seeded())
    loaded.load_state_dict(stored.state_dict())
    for grid in (stored, loaded):
        grid.update(Half(), 0.2, seeded(3), every_cell=False)
    assert torch.equal(stored.alphas, loaded.alphas)
    assert torch.equal(stored.occupied, loaded.occupied)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resolution": 0}, "resolution at least 1, but got 0"),
        ({"update_every": 0}, "update_every at least 1, but got 0"),
        ({"decay": 1.0}, "decay at least 0 and below 1, but got 1.0"),
        ({"threshold": -1.0}, "threshold at least 0, but got -1.0"),
    ],
)
def test_impossible_configurations_are_refused(wrong, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        OccupancyGridConfig(**wrong)
