"""The kernels' rasterisers equal the reference implementation: the same face at every pixel.

Numba's on a CPU. Triton's on a GPU, or with TRITON_INTERPRET=1 on a CPU:
`TRITON_INTERPRET=1 python -m pytest -m gpu` and this file.
"""

import os
from importlib import import_module

import pytest
import torch

from hash3d.rendering._torch_raster import Projected, visible_faces

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")


@pytest.fixture(params=["numba", pytest.param("triton", marks=pytest.mark.gpu)])
def both(request):
    """The faces that the reference and a kernel see."""
    kernels = import_module(f"hash3d.rendering._{request.param}_raster")
    device = "cuda" if request.param == "triton" and os.environ.get("TRITON_INTERPRET") != "1" else "cpu"

    def see(screen: torch.Tensor, depths: torch.Tensor, faces: torch.Tensor, size: tuple[int, int]):
        projected = Projected(screen[None].to(device), depths[None].to(device), faces.to(device))
        return visible_faces(projected, size)[0], kernels.visible_faces(projected, size)[0]

    return see


def test_triangles_of_all_sizes_some_beyond_the_edges(both):
    generator = torch.Generator().manual_seed(0)
    centres = 50 * torch.rand(60, 1, 2, generator=generator) - 10
    spread = 12 * torch.rand(60, 1, 1, generator=generator) ** 3
    screen = (centres + spread * torch.randn(60, 3, 2, generator=generator)).flatten(0, 1)
    depths = 1.0 + torch.rand(180, generator=generator)
    expected, found = both(screen, depths, torch.arange(180).view(60, 3), (33, 27))
    assert (expected >= 0).float().mean() > 0.2
    assert (expected != found).sum() <= 1  # where two faces cross, a depth's last bit may decide


def test_no_pixel_falls_between_faces_that_share_an_edge_and_the_lowest_row_wins(both):
    """A grid whose edges go through the pixel centres, all at one depth: 4 faces meet there."""
    y, x = torch.meshgrid(torch.arange(6) * 2.0 + 0.5, torch.arange(6) * 2.0 + 0.5, indexing="ij")
    corner = (torch.arange(5)[:, None] * 6 + torch.arange(5)).flatten()
    upper = torch.stack([corner, corner + 1, corner + 6], dim=-1)
    lower = torch.stack([corner + 1, corner + 7, corner + 6], dim=-1)
    expected, found = both(torch.stack([x, y], dim=-1).view(-1, 2), torch.ones(36), torch.cat([upper, lower]), (11, 11))
    assert (expected >= 0).all()
    # Of weights in thirds, say, the sum may miss 1 in its last bit: the depths of two faces may differ by that.
    assert (found >= 0).all()
    assert (expected == found).float().mean() > 0.9


def test_no_faces_are_seen_nowhere(both):
    expected, found = both(torch.zeros(3, 2), torch.ones(3), torch.zeros(0, 3, dtype=torch.int64), (4, 3))
    assert torch.equal(expected, found)


def test_flat_faces_are_not_seen(both):
    screen = torch.tensor([[0.0, 0.0], [8.0, 8.0], [4.0, 4.0]])
    expected, found = both(screen, torch.ones(3), torch.tensor([[0, 1, 2]]), (8, 8))
    assert torch.equal(found, expected)
    assert found.max() == -1
