# mypy: allow-untyped-defs, allow-incomplete-defs, allow-untyped-decorators, allow-untyped-calls
"""Sines and cosines of coordinates as a Triton kernel on CUDA, "F N" in memory, in one pass over it."""

import triton
import triton.language as tl
from torch import Tensor

BLOCK = 256
"""Points of one program."""


@triton.jit(do_not_specialize=["num_points"])
def _encode_kernel(
    points, frequencies, features, limit, num_points, COUNT: tl.constexpr, BLOCK: tl.constexpr, LIMITED: tl.constexpr
):  # fmt: skip
    """Write the features of a block; LIMITED: if it begins before the number in `limit`."""
    if LIMITED:  # noqa: SIM102  (Triton compiles no `and` of the two.)
        if tl.program_id(0) * BLOCK >= tl.load(limit):
            return
    rows = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask = rows < num_points
    for axis in tl.static_range(3):
        centred = 2.0 * tl.load(points + rows * 3 + axis, mask=mask, other=0.0) - 1.0
        place = features + axis * num_points + rows
        tl.store(place, centred, mask=mask)
        for number in tl.static_range(COUNT):
            angle = centred * tl.load(frequencies + number)
            place += 3 * num_points
            tl.store(place, tl.sin(angle), mask=mask)
            tl.store(place + 3 * COUNT * num_points, tl.cos(angle), mask=mask)


def encode(points: Tensor, frequencies: Tensor, limit: Tensor | None = None) -> Tensor:
    """Compute `Frequency.forward`, without derivatives.

    After `limit` points, a number on the device, features may be anything.
    """
    features = points.new_empty(3 + 6 * len(frequencies), len(points))
    _encode_kernel[(triton.cdiv(len(points), BLOCK),)](
        points.contiguous(), frequencies, features, points if limit is None else limit, len(points),
        COUNT=len(frequencies), BLOCK=BLOCK, LIMITED=limit is not None,
    )  # fmt: skip
    return features.T
