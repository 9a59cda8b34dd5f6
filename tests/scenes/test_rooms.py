"""Rooms hold what was needed, and grow when it was more."""

import pytest
import torch

from hash3d.rendering.raster import SurfaceRender
from hash3d.representations.mesh import Mesh
from hash3d.scenes.rooms import FIRST, RANDOM, REFERENCE, STEP, Rooms


def note(rooms, faces, covered, kind=RANDOM, *, fixed=False):
    """Take down a render of two views of 100 x 100 pixels, in one step of a graph or plainly."""
    rows = 4 if fixed else faces
    mesh = Mesh(
        vertices=torch.zeros(rows, 3), faces=torch.zeros(rows, 3, dtype=torch.int64), closed=True,
        counts=torch.tensor([faces, faces]) if fixed else None,
    )  # fmt: skip
    color, alpha = torch.zeros(2, 100, 100, 3), torch.zeros(2, 100, 100, 1)
    number = torch.tensor(covered) if fixed else covered
    rooms.note(mesh, SurfaceRender(color=color, alpha=alpha, depth=alpha, covered=number), kind)
    assert rooms.faces == faces


def test_they_are_ready_after_some_plain_steps_with_a_reference_or_without():
    rooms = Rooms(torch.device("cpu"))
    for _ in range(FIRST):
        assert not rooms.ready
        for kind in (RANDOM, REFERENCE):
            note(rooms, 10, 10, kind)
    assert rooms.ready


@pytest.mark.parametrize("faces", [0, 10, 2000, 12_344])
def test_they_hold_more_than_was_needed_in_whole_steps(faces):
    rooms = Rooms(torch.device("cpu"))
    note(rooms, faces, 5000)
    assert all(count >= 1.3 * faces and count % STEP == 0 and count > 0 for count in rooms.mesh)
    assert 10_000 <= rooms.pixels(RANDOM, 20_000) < 10_000 + STEP
    assert 40_000 <= rooms.pixels(RANDOM, 80_000) < 40_000 + STEP, "pixels are counted in shares"
    assert rooms.pixels(REFERENCE, 20_000) == STEP
    assert rooms.pixels(RANDOM, 1000) == 1000, "no more than there are"


def test_they_stay_until_something_does_not_fit():
    rooms = Rooms(torch.device("cpu"))
    note(rooms, 1000, 5000)
    before = list(rooms.most)
    note(rooms, 1200, 7000)
    assert rooms.most == before
    note(rooms, 1400, 7000)
    assert rooms.most == pytest.approx([1820.0, 1820.0, *before[2:]])


def test_what_a_graph_needed_counts_at_the_next_plain_step():
    """The largest of all its steps, of each kind; graphs that are replayed go on writing to the same places."""
    rooms = Rooms(torch.device("cpu"))
    places = [each.data_ptr() for each in (rooms.needed, rooms.faces)]
    note(rooms, 1000, 5000)
    before = list(rooms.most)
    note(rooms, 3000, 10_000, fixed=True)
    note(rooms, 2000, 15_000, REFERENCE, fixed=True)
    assert rooms.most == before
    assert [each.data_ptr() for each in (rooms.needed, rooms.faces)] == places
    note(rooms, 1000, 5000)
    assert rooms.most == pytest.approx([3900.0, 3900.0, 0.5, 1.5])
    assert rooms.pixels(REFERENCE, 10_000) == 10_000
