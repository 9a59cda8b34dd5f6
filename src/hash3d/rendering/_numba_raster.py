"""Find the face that each pixel sees on the CPU, compiled by numba: face after face, as `_torch_raster` has it."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from hash3d._numba_kernel import Array, kernel, run

from ._torch_raster import Projected


@kernel()
def _span(a: Any, b: Any, c: Any, limit: int) -> Any:
    """The first pixel along an axis whose centre a face may cover, and the first one after; 0 and 0 for NaN."""
    first, last = max(np.ceil(min(a, b, c) - 0.5), 0), min(np.floor(max(a, b, c) + 0.5), limit)
    return (int(first), int(last)) if first < last else (0, 0)


@kernel()
def _draw(screen: Array, depths: Array, faces: Array, nearest: Array, seen: Array) -> None:
    one, half = depths.dtype.type(1), depths.dtype.type(0.5)
    for face in range(len(faces)):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        left, right = _span(screen[i, 0], screen[j, 0], screen[k, 0], seen.shape[1])
        top, bottom = _span(screen[i, 1], screen[j, 1], screen[k, 1], seen.shape[0])
        for row in range(top, bottom):
            for column in range(left, right):
                x, y = nearest.dtype.type(column) + half, nearest.dtype.type(row) + half
                ax, bx, cx = screen[i, 0] - x, screen[j, 0] - x, screen[k, 0] - x
                ay, by, cy = screen[i, 1] - y, screen[j, 1] - y, screen[k, 1] - y
                a, b, c = bx * cy - cx * by, cx * ay - ax * cy, ax * by - bx * ay
                area = a + b + c
                if area == 0 or not ((a >= 0 and b >= 0 and c >= 0) or (a <= 0 and b <= 0 and c <= 0)):
                    continue
                depth = one / (a / area / depths[i] + b / area / depths[j] + c / area / depths[k])
                if depth < nearest[row, column]:
                    nearest[row, column], seen[row, column] = depth, face


def visible_faces(projected: Projected, size: tuple[int, int]) -> Tensor:
    """Compute `visible_faces`, "B H W"."""
    seen = torch.full((len(projected.depths), *size[::-1]), -1, dtype=torch.int64)
    nearest = torch.full(seen.shape, torch.inf, dtype=projected.depths.dtype)
    for view in zip(projected.screen, projected.depths, nearest, seen, strict=True):
        run(_draw, *view[:2], projected.faces, *view[2:])
    return seen
