"""Which of a system's settings a run takes."""

from typing import Literal, get_args

from hash3d.diffusion.loading import EMBEDDED

Scale = Literal["mini", "supplement", "released"]
"""mini: an embedded prior on a CPU; supplement: full size as the paper's supplement has it; released: as the authors'
code has it, where the two disagree."""


def pick_scale(scale: str | None, prior: str) -> Scale:
    """`scale` itself, or for None "mini" with an embedded prior and "supplement" with any other."""
    chosen = scale or ("mini" if prior in EMBEDDED else "supplement")
    for known in get_args(Scale):
        if chosen == known:
            return known
    raise ValueError(f"Expected --scale to be one of {', '.join(get_args(Scale))}, but got {chosen!r}.")
