"""Replay: views that the diffusion model has denoised once are kept, and fitted in pixels many times.

A step that fits kept views needs no U-Net and no encoder, forward or backward: only renders.
"""

from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.ranges import expect_range

ViewT = TypeVar("ViewT")


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """How often targets are made, how many are kept, and how many are fitted at a step (docs/experiments/replay.md).

    Args:
        every: Steps between two targets. More cost less, and learn less.
        together: Batches of the stage's views that are denoised at once, after as many times more steps. On a GPU that
            is idle in a U-Net pass of one view, more take hardly longer.
        denoising_steps: U-Net passes of a target, at timesteps t, t (k - 1) / k, ..., t / k.
        guidance_scale: Of the targets. At 1 a pass has no unconditional branch.
        kept: Targets that are kept; a new one takes the place of the oldest.
        fitted: Kept targets that a step fits, chosen at random.
        until: Share of the stage's steps after which it goes on by score distillation.
        weight: Of the mean squared error between renders and targets, in place of the guidance's loss weight.
        max_bytes: Bytes of kept targets, of which at least one stays.
    """

    every: int = 3
    together: int = field(default=1, metadata={"later": True})
    denoising_steps: int = 1
    guidance_scale: float = 1.0
    kept: int = 100
    fitted: int = 4
    until: float = 1.0
    weight: float = 1000.0
    max_bytes: int = 256 * 2**20

    def __post_init__(self) -> None:
        expect_range(self, "every together denoising_steps kept fitted max_bytes", at_least=1)
        expect_range(self, "until", above=0, at_most=1)
        expect_range(self, "weight", above=0)

    def active(self, step: int, steps: int) -> bool:
        """Whether a step of a stage of `steps` fits targets."""
        return self.until == 1.0 or step < self.until * steps

    def path(self, start: int) -> list[int]:
        """The timesteps of a target's denoising, from `start` down."""
        passes = self.denoising_steps
        return [max(start * left // passes, 1) for left in range(passes, 0, -1)]


class TargetBuffer(Generic[ViewT]):
    """The last denoised images, each with what is needed to render its view again.

    Example::

        if step % 3 == 0:
            targets.add(denoised, view)  # (H, W, 3), and whatever renders it again
        images, views = targets.sample(4, generator)
        loss = (render(views) - torch.stack(images)).square().mean()

    Args:
        kept: images that are kept; a new one takes the place of the oldest.
        max_bytes: of all kept images; the newest stays in any case.
    """

    def __init__(self, kept: int, max_bytes: int) -> None:
        self.kept, self.max_bytes = kept, max_bytes
        self._targets: list[tuple[Float[Tensor, "H W C"], ViewT]] = []

    def __len__(self) -> int:
        return len(self._targets)

    def add(self, image: Float[Tensor, "H W C"], view: ViewT) -> None:
        """Keep a copy of an image, and its view as it is."""
        self._targets.append((image.detach().clone(), view))
        del self._targets[: -self.kept]
        while len(self) > 1 and sum(each.nbytes for each, _ in self._targets) > self.max_bytes:
            del self._targets[0]

    def sample(self, count: int, generator: torch.Generator) -> tuple[list[Float[Tensor, "H W C"]], list[ViewT]]:
        """At most `count` different images with their views, uniformly chosen by a generator on the CPU.

        These are the kept images themselves: copy one before you change it.
        """
        order = torch.randperm(len(self._targets), generator=generator)[:count].tolist()
        chosen = [self._targets[place] for place in order]
        return [image for image, _ in chosen], [view for _, view in chosen]

    def state_dict(self) -> dict[str, Any]:
        """The images and their views."""
        return {"images": [image for image, _ in self._targets], "views": [view for _, view in self._targets]}

    def load_state_dict(self, state: dict[str, Any], device: torch.device) -> None:
        """Keep what was kept, as far as there is room."""
        self._targets.clear()
        for image, view in zip(state["images"], state["views"], strict=True):
            self.add(image.to(device), view)
