"""The table of a page."""

from hash3d.bench.page import HEADS, cells, page_lines
from hash3d.bench.summary import CaseSummary, Spread

ONE = Spread(mean=1.0, median=1.25, first_quartile=0.5, third_quartile=2.0)
ROW = CaseSummary(
    name="ours",
    note="a note",
    engine="auto",
    steps=8,
    ms=ONE,
    parts={"render": 0.1, "encode": 0.2, "U-Net": 0.3, "backward": 0.15, "other": 0.25},
    reused=0.75,
    over_off=ONE,
    over_same_engine=ONE,
    over_released=ONE,
    peak_bytes=3 * 2**29,
)


def test_a_row_has_a_cell_for_each_head():
    speed_up = "1.00 (0.50-2.00)"
    assert dict(zip(HEADS, cells(ROW), strict=True)) == {
        "case": "ours",
        "steps": "8",
        "reused": "75%",
        "ms a step": "1.0",
        "median (quartiles)": "1.2 (0.5-2.0)",
        "render": "0.1",
        "encode": "0.2",
        "U-Net": "0.3",
        "backward": "0.1",
        "other": "0.2",
        "GiB": "1.50",
        "times off, eager": speed_up,
        "times released, eager": speed_up,
        "times off, same engine": speed_up,
    }


def test_a_page_says_how_it_was_made():
    account = {"command": "hash3d bench x", "commit": "abc", "hardware": "2 CPU cores", "date": "today", "versions": {}}
    lines = page_lines({**account, "about": "Stage 1."}, [ROW])
    assert lines[0] == "`hash3d bench x`, commit abc, 2 CPU cores, today, {}."
    assert "Stage 1." in lines
    assert "ours: a note." in lines
