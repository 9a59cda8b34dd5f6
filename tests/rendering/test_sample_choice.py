"""Samples chosen ahead of several renders are those that each render takes by itself, in any number of rows."""

import dataclasses

import pytest
import torch

from hash3d.rendering import sample_choice, volume
from hash3d.rendering.rays import Steps
from hash3d.rendering.sample_choice import Chosen, SampleChoice
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from tests.fields import hash_grid_scene, view

RENDERER = VolumeRendererConfig(samples_per_ray=64).build()


def seeded():
    return torch.Generator().manual_seed(4)


@pytest.fixture(params=[False, True], ids=["whole", "culled"])
def choice(request, monkeypatch):
    """With memory for a few steps, in blocks of fewer; without and with empty cells."""
    for module, name in ((volume, "BLOCK_STEPS"), (sample_choice, "BLOCK_STEPS")):
        monkeypatch.setattr(module, name, 64 * 7)
    monkeypatch.setattr(sample_choice, "LEAST", 100)
    field, occupancy = hash_grid_scene(), None
    if request.param:
        occupancy = OccupancyGridConfig(threshold=1e-3).build(0.6)
        occupancy.update(field, RENDERER.config.step_length(0.6), seeded())
    return SampleChoice(RENDERER, field, occupancy, recorded=False)


def test_steps_of_several_renders_are_chosen_at_once(choice):
    """Of images of any size, among them one that sees nothing; the random shifts are drawn in their order."""
    away = dataclasses.replace(view(size=4), shift=(1e4, 0.0))
    cameras, generators = [view([0.0, 50.0], [0.0, 30.0], size=9), away, view(size=7)], [seeded(), seeded()]
    for _ in range(2):
        counts = choice(cameras, generators[0])
        assert [count > 0 for count in counts] == [True, False, True]
        for number, (each, count) in enumerate(zip(cameras, counts, strict=True)):
            tools = {"occupancy": choice.occupancy, "generator": generators[1]}
            expected = RENDERER(choice.field, each, torch.rand(len(each), 3), **tools).samples
            found = choice.read(number, count)
            torch.testing.assert_close(found["points"], expected.points)
            assert torch.equal(found["rays"] // (each.width * each.height), expected.views)
            assert found["counted"].all()
    assert torch.equal(*(each.get_state() for each in generators))
    assert choice.capacity > 100


@pytest.mark.parametrize("normals", [False, True])
def test_renders_of_chosen_steps_have_the_same_image_and_gradients(choice, normals):
    """Those that come twice change nothing, and do not count."""
    cameras, back, field = view([0.0, 50.0], [0.0, 30.0], size=9), torch.rand(2, 3), choice.field
    results = []
    for ahead in (False, True):
        tools = {"normals": normals, "generator": seeded(), "occupancy": choice.occupancy}
        if ahead:
            (count,) = choice([cameras], seeded())
            columns = choice.read(0, 2 * count)
            columns["lengths"] = lengths = columns["lengths"] * columns.pop("counted")
            tools = {"normals": normals, "steps": Steps(**columns)}
        image = RENDERER(field, cameras, back, **tools)
        shown = [image.color, image.alpha, image.depth, *([image.normal] if normals else [])]
        gradients = torch.autograd.grad(sum((each**2).sum() for each in shown), list(field.parameters()))
        results.append((*shown, *gradients))
    assert torch.equal(image.samples.counted, lengths > 0)
    assert image.samples.weights[1::2].abs().max() == 0
    for expected, found in zip(*results, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 5, 7, 8])
def test_rows_come_in_order_and_count_once(choice, count):
    """Of 20 steps the second of three renders has some, in an order that is not theirs; noise is in that order."""
    order, points = torch.randperm(20, generator=seeded()), torch.rand(20, 3)
    steps = Steps(torch.arange(20) + 6, torch.rand(20), torch.rand(20), points)
    choice._chosen = Chosen(steps, order, torch.tensor([0, 4, 4 + count, 20, 20]), [0, 6, 30, 40])
    choice._noise = torch.rand(20, 3)
    found = choice.read(1, 8)
    counted = found.pop("counted")
    chosen = order[4 : 4 + count]
    expected = {"rays": chosen, "distances": steps.distances[chosen], "lengths": steps.lengths[chosen]}
    expected |= {"points": points[chosen], "noise": choice._noise[4 : 4 + count]}
    assert {name: len(each) for name, each in found.items()} == dict.fromkeys(expected, 8)
    assert all(torch.equal(found[name][counted], each) for name, each in expected.items())


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_render_without_samples_beside_others_shows_the_background(choice, empty):
    """Rows of a graph are then another render's, and count for nothing; two: of no render are there samples."""
    cameras = [view(size=6), view(size=9)]
    for number in range(2):
        if number == empty or empty == 2:
            cameras[number] = dataclasses.replace(cameras[number], shift=(1e4, 0.0))
    counts = choice(cameras, seeded())
    for number, each in enumerate(cameras):
        columns = choice.read(number, 50)
        assert columns["counted"].sum() == min(counts[number], 50)
        columns["lengths"] = columns["lengths"] * columns.pop("counted")
        if counts[number] == 0:
            image = RENDERER(choice.field, each, torch.full((1, 3), 0.7), steps=Steps(**columns))
            assert torch.equal(image.color, torch.full_like(image.color, 0.7))
            assert image.alpha.abs().max() == 0


def test_noise_is_drawn_render_by_render(choice):
    cameras, generators = [view(size=9), view(size=7)], [seeded(), seeded()]
    counts = choice(cameras, generators[0])
    generators[1].set_state(generators[0].get_state())
    choice.draw_noise(generators[0])
    for number, count in enumerate(counts):
        assert torch.equal(choice.read(number, count)["noise"], torch.randn(count, 3, generator=generators[1]))


@pytest.mark.gpu
def test_a_graph_chooses_the_same_steps(monkeypatch):
    """Also when cells, parameters and cameras have changed in place, and when more steps than ever need more memory."""
    monkeypatch.setattr(sample_choice, "LEAST", 100)
    field, moves, step = hash_grid_scene().cuda(), [], -1
    occupancy = OccupancyGridConfig(threshold=1e-3).build(0.6).cuda()
    plain = SampleChoice(RENDERER, field, occupancy, recorded=False)
    recorded = SampleChoice(RENDERER, field, occupancy, recorded=True, before_move=lambda: moves.append(step))
    cameras = [on_gpu(view([0.0, 50.0], [0.0, 30.0], size=9)), on_gpu(view(size=7))]
    generators = [seeded(), seeded()]
    for step, share in enumerate((0.02, 0.1, 0.6, 0.3)):
        occupancy.occupied.copy_(torch.rand(len(occupancy.occupied), generator=seeded()) < share)
        cameras[1].c2w.copy_(view(10.0 * step, 20.0).c2w)
        with torch.no_grad():
            field.encoding.table.mul_(1.1)
        counts = plain(cameras, generators[0])
        assert recorded(cameras, generators[1]) == counts
        for number, count in enumerate(counts):
            torch.testing.assert_close(recorded.read(number, count + 50), plain.read(number, count + 50))
    assert not recorded.failed
    assert 2 in moves
    assert 3 not in moves


def on_gpu(cameras):
    """With matrices on the GPU."""
    return cameras.with_matrices(*(each.cuda() for each in (cameras.viewmats, cameras.K, cameras.c2w)))
