"""Clone, split and prune Gaussians, the optimizer's state included (Kerbl et al. 2023, section 5)."""

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hash3d.ranges import expect_range
from hash3d.tensors import to_device

from .gaussians import PARAMETER_NAMES, Gaussians


@dataclass(frozen=True, kw_only=True)
class DensifyConfig:
    """When Gaussians are added and removed, and which; the defaults are DreamGaussian's (69a3c70, image_sai.yaml).

    Args:
        every: Steps between two rounds.
        start: First step at which a round may happen.
        stop: Last step at which a round may happen.
        grad_threshold: Least mean length of the gradient with respect to the centre on the screen, in units of half an
            image (a shift from the centre to the edge is 1), for a Gaussian to be cloned or split. It scales with the
            loss: retune it with the weights.
        split_scale: Gaussians whose longest axis exceeds this (scene units) are split, smaller ones cloned.
        prune_opacity: Gaussians below this opacity are removed.
        prune_scale: Gaussians whose longest axis exceeds this (scene units) are removed; None removes none.
        max_points: Most Gaussians; None takes the Gaussians' own limit. The largest gradients are added first.
    """

    every: int = 100
    start: int = 100
    stop: int = 1_000_000
    grad_threshold: float = 0.01
    split_scale: float = 0.04
    prune_opacity: float = 0.01
    prune_scale: float | None = 0.4
    max_points: int | None = None

    def __post_init__(self) -> None:
        expect_range(self, "every", at_least=1)
        expect_range(self, "prune_opacity", at_least=0, below=1)

    def is_due(self, step: int) -> bool:
        """Whether a round happens after `step`."""
        return self.start <= step <= self.stop and step % self.every == 0

    def build(self, count: int, generator: torch.Generator) -> "Densifier":
        """Build the densifier of `count` Gaussians; split ones draw positions from `generator` (on the CPU)."""
        return Densifier(self, count, generator)


class Densifier:
    """Accumulates gradients at each step (`add`), and changes the Gaussians in `after_step`."""

    def __init__(self, config: DensifyConfig, count: int, generator: torch.Generator) -> None:
        self.config = config
        self.generator = generator
        self.total, self.views = torch.zeros(count), torch.zeros(count)

    @torch.no_grad()
    def add(self, gradient: Float[Tensor, "B N 2"], size: tuple[int, int]) -> None:
        """Accumulate the gradient of `hash3d.rendering.splat.screen_probe`, in 1/pixels, of B views of `size`.

        `size` is (width, height). A Gaussian counts as seen in a view if its gradient there is finite and not zero.
        """
        x, y = gradient.unbind(dim=-1)
        lengths = torch.stack([x * (0.5 * size[0]), y * (0.5 * size[1])], dim=-1).norm(dim=-1)
        lengths = torch.where(lengths.isfinite(), lengths, 0.0)
        self.total, self.views = to_device(self.total, lengths), to_device(self.views, lengths)
        self.total += lengths.sum(dim=0)
        self.views += (lengths > 0).sum(dim=0)

    def mean_gradients(self) -> Float[Tensor, " N"]:
        """Return the mean length a view, in units of half an image; 0 for Gaussians that were never seen."""
        return self.total / self.views.clamp(min=1)

    def after_step(
        self, step: int, gaussians: Gaussians, optimizer: torch.optim.Optimizer
    ) -> tuple[int, int, int] | None:
        """Call `densify` if `step` is due; returns None if not."""
        return self.densify(gaussians, optimizer) if self.config.is_due(step) else None

    def densify(self, gaussians: Gaussians, optimizer: torch.optim.Optimizer) -> tuple[int, int, int]:
        """Clone small and split large Gaussians with large gradients, then prune; return how many of each."""
        config, before = self.config, len(gaussians)
        limit = gaussians.config.max_points if config.max_points is None else config.max_points
        wanted = select_largest(self.mean_gradients(), config.grad_threshold, max(limit - before, 0))
        large = gaussians.log_scales.detach().exp().amax(dim=-1) > config.split_scale
        num_cloned = clone(gaussians, optimizer, wanted & ~large)
        padding = large.new_zeros(num_cloned)
        num_split = split(gaussians, optimizer, torch.cat([wanted & large, padding]), self.generator)
        num_pruned = prune(gaussians, optimizer, select_useless(gaussians, config))
        if num_pruned and not len(gaussians):
            warnings.warn(
                f"Densification pruned all {num_pruned} Gaussians: each was fainter than prune_opacity "
                f"{config.prune_opacity}, larger than prune_scale {config.prune_scale}, or not finite. The scene is "
                f"empty from here on: the run has diverged. Lower its learning rates or the guidance, or prune less.",
                stacklevel=2,
            )
        self.total, self.views = (gaussians.means.new_zeros(len(gaussians)) for _ in range(2))
        return num_cloned, num_split, num_pruned

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs: accumulated gradients and the generator."""
        return {"total": self.total.clone(), "views": self.views.clone(), "generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from `state_dict`."""
        self.total, self.views = state["total"].clone(), state["views"].clone()
        self.generator.set_state(state["generator"].cpu())


def select_largest(values: Float[Tensor, " N"], threshold: float, most: int) -> Bool[Tensor, " N"]:
    """Select the values that are at least `threshold`, and among the `most` largest."""
    chosen = torch.zeros_like(values, dtype=torch.bool)
    chosen[values.argsort(descending=True, stable=True)[:most]] = True
    return chosen & (values >= threshold)


def select_useless(gaussians: Gaussians, config: DensifyConfig) -> Bool[Tensor, " N"]:
    """Select the Gaussians that are too faint, too large or not finite; tells of the last."""
    opacities = gaussians.opacity_logits.detach().sigmoid()
    scales = gaussians.log_scales.detach().exp().amax(dim=-1)
    columns = [getattr(gaussians, name).detach() for name in PARAMETER_NAMES]
    finite = torch.cat([each if each.ndim == 2 else each[:, None] for each in columns], dim=1).isfinite().all(dim=-1)
    if not finite.all():
        warnings.warn(f"{int((~finite).sum())} Gaussians are not finite and are pruned.", stacklevel=2)
    too_large = scales > (math.inf if config.prune_scale is None else config.prune_scale)
    return (opacities < config.prune_opacity) | too_large | ~finite


def clone(gaussians: Gaussians, optimizer: torch.optim.Optimizer, chosen: Bool[Tensor, " N"]) -> int:
    """Append an exact copy of each chosen Gaussian; the optimizer drives the two apart. Returns how many."""
    added = {name: getattr(gaussians, name).detach()[chosen] for name in PARAMETER_NAMES}
    replace_rows(gaussians, optimizer, torch.arange(len(gaussians), device=chosen.device), added)
    return int(chosen.sum())


def split(
    gaussians: Gaussians,
    optimizer: torch.optim.Optimizer,
    chosen: Bool[Tensor, " N"],
    generator: torch.Generator,
    parts: int = 2,
) -> int:
    """Replace each chosen Gaussian by `parts` drawn from it, 0.8 * `parts` times smaller. Returns how many."""
    parents = {name: getattr(gaussians, name).detach()[chosen] for name in PARAMETER_NAMES}
    added = {name: values.repeat(parts, *[1] * (values.ndim - 1)) for name, values in parents.items()}
    noise = torch.randn(added["means"].shape, generator=generator).to(added["means"])
    added["means"] = added["means"] + rotate(added["quats"], added["log_scales"].exp() * noise)
    added["log_scales"] = added["log_scales"] - math.log(0.8 * parts)
    replace_rows(gaussians, optimizer, (~chosen).nonzero()[:, 0], added)
    return int(chosen.sum())


def prune(gaussians: Gaussians, optimizer: torch.optim.Optimizer, chosen: Bool[Tensor, " N"]) -> int:
    """Remove the chosen Gaussians. Returns how many."""
    replace_rows(gaussians, optimizer, (~chosen).nonzero()[:, 0], {})
    return int(chosen.sum())


def rotate(quats: Float[Tensor, "N 4"], vectors: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """Rotate vectors by quaternions (w, x, y, z): v + 2 w (u x v) + 2 u x (u x v)."""
    quats = torch.nn.functional.normalize(quats, dim=-1)
    axis = quats[:, 1:]
    crossed: Tensor = torch.linalg.cross(axis, vectors)
    rotated: Tensor = vectors + 2.0 * (quats[:, :1] * crossed + torch.linalg.cross(axis, crossed))
    return rotated


def replace_rows(
    gaussians: Gaussians, optimizer: torch.optim.Optimizer, kept: Int[Tensor, " K"], added: dict[str, Tensor]
) -> None:
    """Keep the rows `kept` of every parameter and append `added`; Adam's moments follow, zero for added rows.

    The parameters become new objects: autograd remembers a parameter's shape while a graph made with it is alive.
    """
    for name in PARAMETER_NAMES:
        old = getattr(gaussians, name)
        rows = old.detach()[kept]
        new = nn.Parameter(torch.cat([rows, added[name]]) if added else rows)
        state: dict[str, Any] = optimizer.state.pop(old, {})
        if state:
            optimizer.state[new] = {key: _select_rows(value, old, new, kept) for key, value in state.items()}
        for group in optimizer.param_groups:
            group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
        setattr(gaussians, name, new)


def _select_rows(value: Any, old: nn.Parameter, new: nn.Parameter, kept: Int[Tensor, " K"]) -> Any:
    """Select the rows of Adam's moments; anything else in its state (the step) stays."""
    if not isinstance(value, Tensor) or value.shape != old.shape:
        return value
    moments = torch.zeros_like(new, requires_grad=False)
    moments[: len(kept)] = value[kept]
    return moments
