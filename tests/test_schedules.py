"""Piecewise-linear values."""

import pytest

from hash3d.schedules import Schedule, constant, ramp


def test_ramp():
    value = ramp((50, 0.7), (200, 0.3))
    assert [value(step) for step in (0, 50, 200, 10_000)] == pytest.approx([0.7, 0.7, 0.3, 0.3])
    assert value(125) == pytest.approx(0.5)
    assert value(80) == pytest.approx(0.7 - 0.4 * 30 / 150)


def test_several_knots_are_hit_exactly():
    knots = ((0, 1.0), (10, 5.0), (11, -2.0), (100, 0.0))
    assert [ramp(*knots)(step) for step, _ in knots] == [1.0, 5.0, -2.0, 0.0]
    assert ramp(*knots)(10.5) == pytest.approx(1.5)


def test_constant():
    assert {constant(3.0)(step) for step in (-5, 0, 7, 1e9)} == {3.0}


@pytest.mark.parametrize("knots", [(), ((10, 1.0), (10, 2.0)), ((10, 1.0), (5, 2.0))])
def test_refusals(knots):
    with pytest.raises(ValueError, match="rising steps, but got"):
        Schedule(knots)
