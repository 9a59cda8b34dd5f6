import pytest

from hash3d.bench.cases import OFF_EAGER, Case
from hash3d.bench.contestant import Step
from hash3d.bench.measure import Measured, Passes
from hash3d.bench.operations import Work
from hash3d.bench.rates import Rates
from hash3d.bench.summary import amdahl_limit, cost_in_steps, mean_parts, roofline, speed_up, spread


def step(ms, unet=0.0, *, full=1, shallow=0):
    return Step(ms=ms, parts={"unet": unet, "render": 1.0}, full=full, shallow=shallow)


def measured(steps, blocks, **changes):
    work = Work(operations=4e9, bytes=1e6), Work(operations=1e6, bytes=2e9)
    passes = (Passes(full=work[0], shallow=work[1], seconds=(1.0, 0.5)),)
    usual = {"views": 1, "per_unet": ((3, 1),), "passes": passes, "peak_bytes": None, "draws": 0, "note": ""}
    case = Case(name=OFF_EAGER, cache=None, engine="eager", unreused=OFF_EAGER)
    return Measured(case=case, steps=tuple(steps), blocks=tuple(blocks), **{**usual, **changes})


def test_the_amdahl_limit():
    """The table of shared planning figures: 1.52 at p 0.5, u 0.8, q 0.15, and 2.58 at p 0.9."""
    assert amdahl_limit(0.5, 0.8, 0.15) == pytest.approx(1.52, abs=0.005)
    assert amdahl_limit(0.9, 0.8, 0.15) == pytest.approx(2.58, abs=0.005)
    assert amdahl_limit(0.0, 0.8, 0.15) == amdahl_limit(0.5, 0.0, 0.15) == amdahl_limit(0.5, 0.8, 1.0) == 1.0
    assert amdahl_limit(1.0, 1.0, 0.25) == 4.0


def test_the_amdahl_limit_is_the_gain_where_nothing_else_changes():
    """A step of 10 ms of U-Net and 5 of the rest; shallow passes take 2."""
    full, shallow = step(15.0, 10.0), step(7.0, 2.0, full=0, shallow=1)
    off, on = measured([full] * 4, [4]), measured([full, shallow, shallow, shallow], [4])
    share = mean_parts(off.steps)["U-Net"] / 15.0
    assert speed_up(on, off).mean == pytest.approx(amdahl_limit(0.75, share, cost_in_steps(on.steps)))


def test_parts_add_up():
    parts = mean_parts([step(15.0, 10.0), step(7.0, 2.0)])
    assert parts == {"render": 1.0, "encode": 0.0, "U-Net": 6.0, "backward": 0.0, "other": 4.0}


def test_a_shallow_pass_has_no_cost_where_there_is_none():
    assert cost_in_steps([step(15.0, 10.0)]) is None
    assert cost_in_steps([step(15.0, 10.0, full=1, shallow=1)]) is None
    assert cost_in_steps([step(15.0, 10.0), step(7.0, 2.0, full=0, shallow=1)]) == 0.2
    mixed = step(11.0, 6.0, full=1, shallow=1)
    assert cost_in_steps([step(15.0, 10.0), mixed, step(7.0, 2.0, full=0, shallow=1)]) == 0.2


def test_speed_ups_are_compared_block_by_block():
    slow = measured([step(10.0), step(10.0), step(40.0)], [2, 1])
    fast = measured([step(5.0), step(5.0), step(10.0)], [2, 1])
    assert speed_up(fast, slow).mean == 3.0
    assert (speed_up(fast, slow).median, speed_up(slow, slow).median) == (3.0, 1.0)  # Of 2 and 4.


def test_a_spread():
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]).median == 3.0
    assert spread([7.0]).first_quartile == 7.0


def test_the_roofline_takes_the_slower_of_products_and_copies():
    """3 full passes of 4 GFLOP at 1 TFLOP/s, and one that reads 2 GB at 1 TB/s, in 4 steps; an encoder of 1 ms."""
    rates = Rates(operations=1e12, bytes=1e12, how="")
    rooflines, work = roofline(measured([step(1.0)] * 4, [4]), [Work(operations=1e9, bytes=0.0)], rates)
    assert rooflines == pytest.approx({"U-Net": (3 * 4.0 + 2.0) / 4, "encoder": 1.0, "total": 4.5})
    assert work.operations == pytest.approx((3 * 4e9 + 1e6) / 4 + 1e9)


def test_the_roofline_is_a_step_s_for_any_number_of_views():
    """Passes are counted per view, and timed for all views of a step: 2 views, 6 full and 2 shallow view passes."""
    rates, work = Rates(operations=1e12, bytes=1e12, how=""), [Work(operations=1e9, bytes=0.0)]
    one = roofline(measured([step(1.0)] * 4, [4]), work, rates)
    two = roofline(measured([step(1.0)] * 4, [4], views=2, per_unet=((6, 2),)), work, rates)
    assert one == two
