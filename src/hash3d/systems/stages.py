"""What every recipe file does with its stages: pick them by scale, and set their number of steps."""

from collections.abc import Callable

from hash3d.diffusion.loading import EMBEDDED
from hash3d.training.stage import Stage, expect_steps, scaled_steps

Stages = Stage | tuple[Stage, ...]


def stages_at(
    scale: str | None,
    prior: str,
    steps: int | None,
    *,
    mini: Callable[..., Stages],
    supplement: Callable[[], Stages],
    released: Callable[[], Stages] | None = None,
) -> tuple[Stage, ...]:
    """The stages of a scale, `steps` long in all, or with None as long as they are.

    Args:
        scale: None is "mini" with an embedded prior and "supplement" with any other.
        prior: the prior's name.
        steps: of all stages; schedules stretch with them at mini scale, and stay at full scale.
        mini: an embedded prior on a CPU; called with `steps` where it is given.
        supplement: full size, as the paper's supplement has it.
        released: full size, as the authors' code has it; None if the two agree.
    """
    expect_steps(steps)
    chosen = scale or ("mini" if prior in EMBEDDED else "supplement")
    if chosen == "mini":
        made = mini() if steps is None else mini(steps)
        return made if isinstance(made, tuple) else (made,)
    full = {"supplement": supplement, "released": released or supplement}
    if chosen not in full:
        raise ValueError(f"Expected --scale to be mini, {' or '.join(full)}, but got {chosen!r}.")
    made = full[chosen]()
    return scaled_steps(made if isinstance(made, tuple) else (made,), steps)
