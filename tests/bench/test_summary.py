"""Means, spreads and speed-ups of made-up steps."""

from dataclasses import replace

from hash3d.bench.measure import OFF_EAGER, OFF_FAST, Case, Measured, Step
from hash3d.bench.summary import (
    HEADS,
    CaseSummary,
    Spread,
    block_means,
    mean_parts,
    share_reused,
    speed_up,
    spread,
    summarize,
)


def step(ms, unet=0.0, *, full=1, shallow=0):
    return Step(ms=ms, parts={"unet": unet, "render": 1.0}, passes=((full, shallow),))


def measured(steps, blocks, name=OFF_EAGER):
    case = Case(name=name, cache=None, engine="eager", unreused=OFF_EAGER)
    return Measured(case=case, steps=tuple(steps), blocks=tuple(blocks), draws=0)


def test_parts_add_up():
    parts = mean_parts([step(15.0, 10.0), step(7.0, 2.0)])
    assert parts == {"render": 1.0, "encode": 0.0, "U-Net": 6.0, "backward": 0.0, "other": 4.0}


def test_the_share_reused_counts_passes():
    assert share_reused([step(1.0, full=1, shallow=3), step(1.0, full=1, shallow=0)]) == 3 / 5
    assert share_reused([step(1.0, full=0)]) == 0.0


def test_blocks_are_consecutive_steps():
    steps = [step(float(ms)) for ms in (1, 3, 5, 10, 20, 60)]
    assert block_means(measured(steps, [2, 1, 3])) == [2.0, 5.0, 30.0]


def test_speed_ups_are_compared_block_by_block():
    slow = measured([step(10.0), step(10.0), step(40.0)], [2, 1])
    fast = measured([step(5.0), step(5.0), step(10.0)], [2, 1])
    assert speed_up(fast, slow).mean == 3.0
    assert (speed_up(fast, slow).median, speed_up(slow, slow).median) == (3.0, 1.0)  # Of 2 and 4.


def test_a_spread():
    assert spread([1.0, 2.0, 3.0, 4.0, 100.0]).median == 3.0
    assert spread([7.0]).first_quartile == 7.0


def test_each_row_is_compared_with_its_own():
    off, fast = measured([step(12.0)], [1]), measured([step(6.0)], [1], OFF_FAST)
    ours = Measured(case=replace(fast.case, name="ours", unreused=OFF_FAST), steps=(step(3.0),), blocks=(1,), draws=0)
    rows = summarize([off, fast, ours])
    assert [(each.over_off.mean, each.over_same_engine.mean) for each in rows] == [(1.0, 1.0), (2.0, 2.0), (4.0, 2.0)]


ONE = Spread(mean=1.0, median=1.25, first_quartile=0.5, third_quartile=2.0)
ROW = CaseSummary(
    name="ours",
    steps=8,
    ms=ONE,
    device_ms=0.64,
    parts={"render": 0.1, "encode": 0.2, "U-Net": 0.3, "backward": 0.15, "other": 0.25},
    reused=0.75,
    over_off=ONE,
    over_same_engine=ONE,
)


def test_a_row_has_a_cell_for_each_head():
    speed_up = "1.00 (0.50-2.00)"
    assert dict(zip(HEADS, ROW.cells, strict=True)) == {
        "case": "ours",
        "steps": "8",
        "reused": "75%",
        "ms a step": "1.0",
        "median (quartiles)": "1.2 (0.5-2.0)",
        "device ms": "0.6",
        "render": "0.1",
        "encode": "0.2",
        "U-Net": "0.3",
        "backward": "0.1",
        "other": "0.2",
        "times off, eager": speed_up,
        "times off, same engine": speed_up,
    }
