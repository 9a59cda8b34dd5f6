"""Each bound, each kind of value."""

import math
from types import SimpleNamespace

import pytest

from hash3d.ranges import expect_range

CONFIG = SimpleNamespace(share=1.0, count=1, pair=(0.5, 2.0), none=None, missing=math.nan)


@pytest.mark.parametrize(
    ("names", "bounds"),
    [("share count", {"at_least": 1, "at_most": 1}), ("pair", {"above": 0.4, "below": 2.1}), ("none", {"above": 0})],
)
def test_a_bound_that_is_meant_to_be_met_is(names, bounds):
    expect_range(CONFIG, names, **bounds)


@pytest.mark.parametrize(
    ("names", "bounds", "message"),
    [
        ("count share", {"below": 1}, "Expected count below 1, but got 1."),
        ("share", {"above": 1}, "Expected share above 1, but got 1.0."),
        ("count share", {"at_least": 1.5}, "Expected count at least 1.5, but got 1."),
        ("pair", {"at_least": 0, "at_most": 1}, r"Expected pair at least 0 and at most 1, but got \(0.5, 2.0\)."),
        ("missing", {"above": 0}, "Expected missing above 0, but got nan."),
    ],
)
def test_what_is_outside_is_refused_by_its_name(names, bounds, message):
    with pytest.raises(ValueError, match=message):
        expect_range(CONFIG, names, **bounds)
