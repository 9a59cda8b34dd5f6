"""The image and the shape of a system that is given none."""

import numpy as np
import pytest
import trimesh

from hash3d.bench.inputs import make_ball, make_disc
from hash3d.pictures import read_rgba


def test_a_disc_of_three_fifths_the_width(tmp_path):
    alpha = read_rgba(make_disc(tmp_path))[..., 3]
    # Of a circle's area, up to half a pixel of its rim.
    assert alpha.mean() == pytest.approx(np.pi * 0.3**2, rel=0.02)


def test_a_unit_ball_coloured_by_its_positions(tmp_path):
    ball = trimesh.load(make_ball(tmp_path))
    assert np.allclose(np.linalg.norm(ball.vertices, axis=1), 1.0, atol=1e-5)
    # Eight bits, cut off.
    assert np.abs(ball.visual.vertex_colors[:, :3] / 255 - (0.5 + 0.5 * ball.vertices)).max() < 1.01 / 255
