"""Triton's rasteriser equals the reference implementation, and says when its lists are too short.

On a GPU, or with TRITON_INTERPRET=1 on a CPU: `TRITON_INTERPRET=1 python -m pytest -m gpu` and this file.
"""

import os

import pytest
import torch

from hash3d.cameras import Cameras
from hash3d.rendering._torch_splat import render_torch
from hash3d.rendering.splat import SplatJob, SplatRendererConfig
from hash3d.representations.gaussians import GaussianTensors
from tests.rendering.test_splat_backends import scene

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
DEVICE = "cpu" if INTERPRETED else "cuda"
NAMES = ("means", "quats", "scales", "opacities", "colors", "background", "probe")

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("ignore::RuntimeWarning")]


def job(splats: GaussianTensors, size: int = 20, views: int = 2) -> SplatJob:
    """Views from both sides, in the Gaussians' dtype and on their device; all that has a gradient is a leaf."""
    cameras = Cameras.orbit(
        elevation=[10.0, -40.0][:views], azimuth=[20.0, 200.0][:views], radius=1.5, fov_y=49.1, size=size
    )
    like = splats.means
    background = torch.full((views, 3), 0.4).to(like).requires_grad_()
    probe = torch.zeros(views, len(splats), 2).to(like).requires_grad_()
    return SplatJob(
        splats, cameras.viewmats.to(like), cameras.K.to(like), background, probe, (size, size), SplatRendererConfig()
    )


def draw(job: SplatJob, backend: str, capacity: int | None = None) -> tuple[torch.Tensor, list[torch.Tensor], int]:
    """Colour, alpha and depth, the gradients of `NAMES` under fixed cotangents, and the places needed."""
    from hash3d.rendering._triton_splat import render_triton

    render, need = render_triton(job, capacity) if backend == "triton" else (render_torch(job), 0)
    image = torch.cat([render.color, render.alpha, render.depth], dim=-1)
    cotangents = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    leaves = [getattr(job.splats, name) for name in NAMES[:5]] + [job.background, job.probe]
    return image.detach(), list(torch.autograd.grad((image * cotangents).sum(), leaves)), int(need)


@pytest.mark.parametrize("kind", ["fog", "solid", "wide"])
def test_values_and_gradients_equal_the_reference(kind):
    """More Gaussians a tile than it takes at once, an image that no tile divides, some beyond its edge."""
    expected, expected_gradients, _ = draw(job(scene(60, torch.float64, kind, DEVICE)), "torch")
    image, gradients, _ = draw(job(scene(60, torch.float32, kind, DEVICE)), "triton")
    torch.testing.assert_close(image.double(), expected, atol=1e-5, rtol=0)
    for name, gradient, wanted in zip(NAMES, gradients, expected_gradients, strict=True):
        error = (gradient.double() - wanted).norm() / wanted.norm()
        assert error < 1e-5, (name, float(error))


def column(depths: list[float], opacities: list[float]) -> GaussianTensors:
    """Round Gaussians on the optical axis of a camera at azimuth 0 and elevation 0, at distances from it."""
    count = len(depths)
    means = torch.stack([torch.zeros(count), torch.zeros(count), 1.5 - torch.tensor(depths)], dim=-1)
    tensors = (
        means, torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1), torch.full((count, 3), 0.2),
        torch.tensor(opacities), torch.rand(count, 3, generator=torch.Generator().manual_seed(0)),
    )  # fmt: skip
    means, quats, scales, faint, colors = (each.to(DEVICE).requires_grad_() for each in tensors)
    return GaussianTensors(means=means, quats=quats, scales=scales, opacities=faint, colors=colors)


def ahead(splats: GaussianTensors) -> SplatJob:
    camera = Cameras.orbit(elevation=0.0, azimuth=0.0, radius=1.5, fov_y=49.1, size=8)
    given = job(splats, 8, 1)
    return given._replace(viewmats=camera.viewmats.to(DEVICE), intrinsics=camera.K.to(DEVICE))


def test_nothing_behind_a_closed_pixel_and_behind_the_camera_is_drawn():
    """The order is by depth, whatever that of the rows: three that close every pixel, one behind, one at the back."""
    front = [0.9, 0.8, 1.0]
    splats = column([2.0, *front, -0.5, 0.001], [1.0, 1.0, 1.0, 1.0, 1.0, 1.0])
    image, gradients, _ = draw(ahead(splats), "triton")
    expected, wanted, _ = draw(ahead(splats), "torch")
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)
    for name, gradient, each in zip(NAMES[:5], gradients, wanted, strict=False):
        assert not gradient[4:].any(), name
        torch.testing.assert_close(gradient, each, atol=1e-4, rtol=1e-4)


def test_gaussians_that_no_pixel_sees_give_an_empty_image():
    splats = column([-0.5, 0.001], [1.0, 1.0])
    image, gradients, need = draw(ahead(splats), "triton")
    assert need == 0
    torch.testing.assert_close(image[..., :3], torch.full_like(image[..., :3], 0.4))
    assert not image[..., 3:].any()
    assert not any(gradient.any() for gradient in gradients[:5])


def test_bins_whose_lists_find_no_place_are_not_a_number_and_the_need_is_told():
    """One place less than is needed: the bin that comes last has no image, and the others are whole."""
    splats = scene(40, torch.float32, "solid", DEVICE)
    whole, _, need = draw(job(splats, 32, 1), "triton")
    short, _, again = draw(job(splats, 32, 1), "triton", capacity=need - 1)
    assert again == need
    missing = short.isnan().any(dim=-1)[0].view(2, 16, 2, 16).permute(0, 2, 1, 3).flatten(0, 1).flatten(1)
    assert missing.all(dim=1).sum() == 1
    assert (missing.any(dim=1) == missing.all(dim=1)).all()
    torch.testing.assert_close(torch.where(short.isnan(), whole, short), whole)


def test_lists_that_need_more_than_is_made_unasked_get_it(monkeypatch):
    from hash3d.rendering import _triton_splat

    splats = scene(40, torch.float32, "solid", DEVICE)
    whole, _, need = draw(job(splats, 32, 1), "triton")
    monkeypatch.setitem(_triton_splat.RESERVE, "places", need // 2)
    with pytest.warns(UserWarning, match=f"needs {need} places .* not {need // 2}: from now on there are {2 * need}"):
        image, _, again = draw(job(splats, 32, 1), "triton")
    assert torch.equal(image, whole)
    assert (again, _triton_splat.RESERVE["places"]) == (need, 2 * need)


@pytest.mark.skipif(INTERPRETED, reason="there are no CUDA graphs")
def test_a_graph_holds_both_passes():
    """Replayed for other Gaussians and cameras, without the host."""
    first, second = job(scene(60, torch.float32, "solid", DEVICE)), job(scene(60, torch.float32, "fog", DEVICE))
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        for _ in range(3):
            draw_on_device(first)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        image, gradients = draw_on_device(first)
    with torch.no_grad():
        for name in NAMES[:5]:
            getattr(first.splats, name).copy_(getattr(second.splats, name))
    graph.replay()
    expected, wanted = draw_on_device(second)
    torch.testing.assert_close(image, expected)
    for gradient, each in zip(gradients, wanted, strict=True):
        torch.testing.assert_close(gradient, each, atol=1e-4, rtol=1e-3)


def draw_on_device(job: SplatJob) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
    """The colours, and the gradients of a loss of them."""
    from hash3d.rendering._triton_splat import render_triton

    image = render_triton(job)[0].color
    return image.detach(), torch.autograd.grad(image.square().sum(), [getattr(job.splats, name) for name in NAMES[:5]])
