"""Weights of the losses."""

import dataclasses

import pytest

from hash3d.recipes.loss_weights import LossWeights
from hash3d.schedules import Schedule, constant, ramp


def test_a_loss_without_weight_is_not_active():
    weights = LossWeights(guidances={"image": constant(2.0)}, color=constant(0.0), mask=ramp((10, 0.0), (20, 4.0)))
    assert weights.active(0) == {}
    assert weights.active(10) == {}
    assert weights.active(15) == {"mask": 2.0}
    assert weights.used() == {"mask"}


def test_a_loss_that_only_starts_later_or_ends_is_used():
    assert LossWeights(sparsity=ramp((10, 0.0), (20, 1.0))).used() >= {"sparsity"}
    assert LossWeights(sparsity=ramp((10, 1.0), (20, 0.0))).used() >= {"sparsity"}
    assert "sparsity" not in LossWeights(sparsity=ramp((10, 0.0), (20, 0.0))).used()


def test_by_default_only_the_reference_view_counts():
    assert LossWeights().used() == {"color", "mask"}


@pytest.mark.parametrize("name", sorted(LossWeights().schedules()))
def test_every_schedule_reaches_the_step_under_its_name(name):
    weights = LossWeights(color=constant(0.0), mask=constant(0.0))
    assert weights.used() == set()
    assert dataclasses.replace(weights, **{name: constant(3.0)}).active(7) == {name: 3.0}


def test_every_field_but_a_limit_is_a_schedule():
    others = {each.name for each in dataclasses.fields(LossWeights)} - set(LossWeights().schedules())
    assert others == {"guidances", "scale_limit"}
    assert all(isinstance(value, Schedule) for value in LossWeights().schedules().values())
