"""Paired cases of one recipe, and the order of their blocks."""

import pytest

from hash3d.bench.cases import DEEPCACHE, OFF_EAGER, OFF_FAST, OURS, RELEASED_EAGER
from hash3d.bench.contestant import Contestant
from hash3d.bench.measure import run_blocks
from hash3d.bench.summary import share_reused

from .conftest import PLAN


def test_five_cases_see_the_same_cameras_and_noise(results):
    assert [each.case.name for each in results] == [OFF_EAGER, OFF_FAST, DEEPCACHE, RELEASED_EAGER, OURS]
    assert len({each.draws for each in results}) == 1
    for each in results:
        assert (len(each.steps), each.blocks) == (PLAN.steps, (PLAN.block, PLAN.block))
        assert {step.full + step.shallow for step in each.steps} == {1}
        assert each.peak_bytes is None, "known of a GPU alone"


def test_the_cases_reuse_the_same_share(results):
    """Eight steps open every cell; of those that follow two of eight are full."""
    off, fast, deepcache, released, ours = (share_reused(each.steps) for each in results)
    assert (off, fast, ours) == (0.0, 0.0, 0.75)
    assert results[2].case.cache.interval == 4
    # A step more or less.
    assert [deepcache, released] == pytest.approx([0.75, 0.75], abs=1.01 / PLAN.steps)


def test_without_the_package_our_own_deepcache_stands_in(results):
    assert results[2].note == (
        "our own DeepCache on the eager engine, because DeepCache is not installed (pip install 'hash3d[bench]')"
    )


def test_blocks_rotate_and_the_last_is_shorter():
    class Recorder(Contestant):
        def __init__(self, name):
            self.name = name

        def run(self, steps, *, measured):
            ran.append((self.name, steps, measured))

    ran = []
    run_blocks([Recorder("a"), Recorder("b")], 5, 2, measured=True, say=lambda _: None)
    assert ran == [(name, steps, True) for names, steps in (("ab", 2), ("ba", 2), ("ab", 1)) for name in names]
