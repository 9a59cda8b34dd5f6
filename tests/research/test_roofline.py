"""The work of passes, and what follows from it."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from hash3d.bench.measure import OFF_EAGER, Case, Measured, Step
from research.benchmarks.roofline import (
    Work,
    amdahl_limit,
    count_step,
    count_work,
    main,
    measure_passes,
    record_inputs,
)
from tests.tiny_models import tiny_stable_diffusion


@pytest.fixture(scope="module")
def unet_and_inputs():
    prior = tiny_stable_diffusion()
    noisy, embeddings = torch.zeros(1, 4, 8, 8), prior.embed(["a red mug", ""])
    return prior.unet, prior.make_guided_inputs(noisy, torch.tensor([500]), embeddings[:1], embeddings[1:])


def test_operations_are_those_of_the_layers():
    """A convolution of 3 x 3 from 4 to 8 channels at 8 x 8 pixels: 2 * 9 * 4 * 8 * 64."""
    model = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1))
    image = torch.zeros(1, 4, 8, 8)
    work = count_work(model, lambda: model[0](image))
    assert work == Work(operations=2 * 9 * 4 * 8 * 64, bytes=4 * (9 * 4 * 8 + 8))


@pytest.mark.nightly
def test_a_shallow_pass_is_less_work_the_later_the_cut(unet_and_inputs):
    passes = [measure_passes(*unet_and_inputs, cut, torch.device("cpu")) for cut in (0, 6, 11)]
    full, shallow, _ = zip(*passes, strict=True)
    assert len({work.operations for work in full}) == 1
    for earlier, later in ((full[0], shallow[0]), *pairwise(shallow)):
        assert later.operations < earlier.operations


@torch.no_grad()
def test_the_last_inputs_are_recorded_and_no_more_after_the_block(unet_and_inputs):
    unet, inputs = unet_and_inputs
    other = {**inputs, "sample": inputs["sample"] + 1.0}
    with record_inputs(unet) as seen:
        unet(**other)
        unet(**inputs, return_dict=False)
    unet(**other)
    assert seen.keys() == inputs.keys()
    assert seen["sample"] is inputs["sample"]


def test_the_amdahl_limit():
    """The table of shared planning figures: 1.52 at p 0.5, u 0.8, q 0.15, and 2.58 at p 0.9."""
    assert amdahl_limit(0.5, 0.8, 0.15) == pytest.approx(1.52, abs=0.005)
    assert amdahl_limit(0.9, 0.8, 0.15) == pytest.approx(2.58, abs=0.005)
    assert amdahl_limit(0.0, 0.8, 0.15) == amdahl_limit(0.5, 0.0, 0.15) == amdahl_limit(0.5, 0.8, 1.0) == 1.0
    assert amdahl_limit(1.0, 1.0, 0.25) == 4.0


@pytest.mark.parametrize("views", [1, 2])
def test_the_roofline_takes_the_slower_of_matmuls_and_copies(views):
    """3 full passes of 4 GFLOP at 1 TFLOP/s, and one that reads 2 GB at 1 TB/s, in 4 steps of any number of views."""
    passes = [((views, 0),)] * 3 + [((0, views),)]
    case = Case(name=OFF_EAGER, cache=None, engine="eager", unreused=OFF_EAGER)
    steps = tuple(Step(ms=1.0, parts={}, passes=each) for each in passes)
    measured = Measured(case=case, steps=steps, blocks=(4,), draws=0)
    work = [(Work(operations=4e9, bytes=1e6), Work(operations=1e6, bytes=2e9))]
    total, seconds = count_step(measured, work, Work(operations=1e12, bytes=1e12))
    assert seconds == pytest.approx((3 * 4.0 + 2.0) / 4 / 1000)
    assert total.operations == pytest.approx((3 * 4e9 + 1e6) / 4)


@pytest.mark.nightly
def test_the_command_prints_a_row_a_case(prior_folder, capsys):
    options = ("--prior", prior_folder, "--scale", "mini", "--device", "cpu", "--steps", "2", "--warm-up", "1")
    main(["zero123_gs", *map(str, options)])
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("| ") for line in lines) == 1 + 1 + 5
    assert lines[-1].startswith("Measured rates: ")
