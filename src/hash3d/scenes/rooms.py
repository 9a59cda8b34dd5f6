"""How many rows the CUDA graphs of a mesh's steps have: graphs are of fixed shapes, and surfaces change."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.rendering.raster import SurfaceRender
from hash3d.representations.mesh import Mesh

VERTICES, FACES, RANDOM, REFERENCE = range(4)
"""What has rooms: the mesh, and the pixels that random views and the reference view cover, as shares of all pixels."""
GROWTH = (1.3, 1.3, 2.0, 2.0)
"""A new room is for so many times as much as was needed."""
STEP = 2048
"""Rows come in multiples of it; it is even, since faces come in pairs."""
FIRST = 8
"""Plain steps before the first rooms: random cameras are near and far."""


class Rooms:
    """Grow when a plain step is taken, and then to what any step so far has needed, with room to spare.

    Args:
        device: where the graphs write what they need.
    """

    def __init__(self, device: torch.device) -> None:
        self.most = [0.0] * 4
        """Needs up to these fit."""
        self.needed = torch.zeros(4, dtype=torch.float64, device=device)
        """The largest needs of all steps of graphs."""
        self.faces = torch.zeros((), device=device)
        """Of the surface that was rendered last."""
        self._steps, self._written = 0, False

    @property
    def ready(self) -> bool:
        """Whether enough plain steps have been taken."""
        return self._steps >= FIRST

    @property
    def mesh(self) -> tuple[int, int]:
        """Rows of vertices and of faces."""
        return _round_up(self.most[VERTICES]), _round_up(self.most[FACES])

    def pixels(self, kind: int, count: int) -> int:
        """Rows of the covered ones among `count` pixels of RANDOM or REFERENCE views."""
        return min(count, _round_up(self.most[kind] * count))

    def note(self, mesh: Mesh, view: SurfaceRender, kind: int) -> None:
        """Take down what a render has needed; the host waits if the mesh has no room, and graphs were made before."""
        share: Any = view.covered / view.alpha.numel()
        if mesh.counts is not None:
            self._write(mesh.counts, share, kind)
            return
        found = [float(len(mesh.vertices)), float(len(mesh)), 0.0, 0.0]
        found[kind] = share
        if self._written:
            found = list(map(max, found, self.needed.tolist()))
        self.most = [
            most if need <= most else growth * need
            for most, need, growth in zip(self.most, found, GROWTH, strict=True)
        ]  # fmt: skip
        self.faces.fill_(len(mesh))
        self._steps += kind == RANDOM

    def _write(self, counts: Tensor, share: Float[Tensor, ""], kind: int) -> None:
        """The same on the device, as a graph holds it."""
        self._written = True
        for place, need in ((VERTICES, counts[0]), (FACES, counts[1]), (kind, share)):
            self.needed[place].copy_(torch.maximum(self.needed[place], need))
        self.faces.copy_(counts[1])


def _round_up(rows: float) -> int:
    return STEP * math.ceil(max(rows, 1.0) / STEP)
