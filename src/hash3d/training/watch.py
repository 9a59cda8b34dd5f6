"""The numbers of a step, and the watch for those that are not finite.

A step with such numbers changes nothing, is counted and told; too many stop the run. A step's flags are made on the
device and travel with its metrics, so that no step waits for them. A skipped step leaves parameters and moments as they
were, as `torch.amp.GradScaler` does.
"""

import warnings
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cache.running import LateNumbers


class Metrics(Mapping[str, float]):
    """The numbers of one step by name, host numbers to whoever reads them.

    Those that lie on a GPU are sent to the host at once, and waited for when the first of them is read: a loop that
    reads the numbers of a step when they have `arrived` never waits.

    Args:
        numbers: host numbers and scalars, in the order of a row.
    """

    def __init__(self, numbers: Mapping[str, float | Float[Tensor, ""]]) -> None:
        scalars = {name: value.detach() for name, value in numbers.items() if isinstance(value, Tensor)}
        self._numbers: dict[str, float] = {
            name: 0.0 if isinstance(value, Tensor) else value for name, value in numbers.items()
        }
        self._late, self._missing = LateNumbers(), bool(scalars)
        if scalars:
            self._late.send(torch.stack(list(scalars.values())), list(scalars))

    @property
    def arrived(self) -> bool:
        """Whether reading waits for nothing."""
        self._settle(wait=False)
        return not self._missing

    def __getitem__(self, name: str) -> float:
        self._settle()
        return self._numbers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def _settle(self, *, wait: bool = True) -> None:
        """Take over what was sent."""
        for values, names in self._late.arrived(wait=wait):
            self._numbers.update(zip(names, values, strict=True))
            self._missing = False


WINDOW, PATIENCE = 10, 5
"""Of the last `WINDOW` steps, `PATIENCE` that are not finite stop a run; in a shorter stage all of its steps do."""
PREFIX = "not_finite_"
"""What the names of the flags in a step's metrics begin with."""
DAMAGED_PRIOR = (
    "Half precision overflows, or the diffusion model is damaged: try --engine eager, --device cpu (single precision) "
    "or a lower guidance scale, else fetch the model anew"
)
DIVERGED = "The run has diverged: lower its learning rates or its loss weights, or try another --seed"


class NotFiniteError(ValueError):
    """A run that cannot go on: its numbers are not finite, or its scene is empty."""


class Watch:
    """Counts the steps of a stage whose numbers are not finite.

    Args:
        steps: of the stage.
    """

    def __init__(self, steps: int) -> None:
        self.patience = min(PATIENCE, steps)
        self.counts: dict[str, int] = {}
        """Steps by what was not finite: "loss", "gradients" (of a finite loss), "guidance", "text_guidance"."""
        self._recent: deque[set[str]] = deque(maxlen=WINDOW)

    def read(self, metrics: Metrics) -> dict[str, float]:
        """Count a step, whose numbers are waited for. Returns them without the flags that are not raised."""
        row = {name: value for name, value in metrics.items() if value or not name.startswith(PREFIX)}
        found = [name.removeprefix(PREFIX) for name in row if name.startswith(PREFIX)]
        for name in found:
            if name not in self.counts:
                effect = "its part is left out" if "guidance" in name else "the step is skipped"
                warnings.warn(f"Step {row['step']:.0f}: the {name} is not finite; {effect}.", stacklevel=2)
            self.counts[name] = self.counts.get(name, 0) + 1
        self._recent.append({"step" if name in ("loss", "gradients") else name for name in found})
        return row

    def check(self, row: dict[str, float]) -> None:
        """Raise `NotFiniteError` after too many such steps, or if no Gaussian and no face is left."""
        step = f"step {row['step']:.0f}"
        recent = Counter(kind for kinds in self._recent for kind in kinds)
        stuck = sorted(kind for kind, count in recent.items() if count >= self.patience)
        if stuck:
            what = " and ".join("the loss or its gradient" if kind == "step" else f"the {kind}" for kind in stuck)
            advice = DIVERGED if stuck == ["step"] else DAMAGED_PRIOR
            raise NotFiniteError(
                f"Expected finite numbers, but {what} had none in {self.patience} of the last {len(self._recent)} "
                f"steps, up to {step}. {advice}. "
                "The last checkpoint, if there is one, is finite."
            )
        for name in ("gaussians", "faces"):
            if row.get(name) == 0.0:
                raise NotFiniteError(f"Expected a scene, but no {name} are left after {step}. {DIVERGED}.")


def step_if_finite(optimizer: torch.optim.Optimizer, loss: Float[Tensor, ""]) -> dict[str, Float[Tensor, ""]]:
    """Take an optimization step unless the loss or the norm of its gradient is not finite. Returns 0 or 1 for each.

    A fused optimizer decides on the device, by the `found_inf` that `torch.amp.GradScaler` sets too; for any other the
    host waits. A norm that overflows counts, since its square would stay in Adam's moments.
    """
    gradients = [each.grad for group in optimizer.param_groups for each in group["params"] if each.grad is not None]
    norms = torch._foreach_norm(gradients) if gradients else ()
    not_finite = torch.stack([loss.detach(), *(norm.to(loss) for norm in norms)]) * 0.0 != 0.0
    found = not_finite.any().float()
    if all(group.get("fused") for group in optimizer.param_groups):
        optimizer.found_inf = found  # type: ignore[attr-defined]
        optimizer.step()
    elif not bool(found):
        optimizer.step()
    bad_loss = not_finite[0].float()
    return {"loss": bad_loss, "gradients": found - bad_loss}


@contextmanager
def rates_on_device(optimizer: torch.optim.Optimizer, rates: Float[Tensor, " G"]) -> Iterator[None]:
    """Let a step read its groups' learning rates from tensors, so that a CUDA graph can hold it."""
    before = [{name: group[name] for name in ("lr", "capturable")} for group in optimizer.param_groups]
    for group, rate in zip(optimizer.param_groups, rates.unbind(), strict=True):
        group |= {"lr": rate, "capturable": rate.is_cuda}
    try:
        yield
    finally:
        for group, own in zip(optimizer.param_groups, before, strict=True):
            group |= own
