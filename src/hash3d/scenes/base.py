"""A scene in training: a model, its background, its optimizer, and what draws it. One kind for each representation."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, Unpack

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Shading
from hash3d.representations.optimizer import load_state

from .losses import opaque_entropy_loss, opaque_loss, sparsity_loss, total_variation_loss

Losses = dict[str, Callable[[], Float[Tensor, ""]]]
"""Losses by name, each computed when it is called."""
ModelT = TypeVar("ModelT", bound=nn.Module)
COUNTED = ("gaussians", "occupied", "faces")
"""What the kinds of scenes count (`Scene.sizes`), as the metrics have it."""
OF_GUIDANCE = {"guidance", "text_guidance"}
OF_PICTURES = {"color", "mask", "mask_entropy"}


class SceneTools(TypedDict):
    """What every scene works with."""

    device: torch.device
    """Where to optimise."""
    generators: dict[str, torch.Generator]
    """On the CPU; "initialisation" and "rendering" are used."""
    colors: Float[Tensor, "2 C"]
    """White and black in the model's channels."""


class Scene(ABC, Generic[ModelT]):
    """What a stage optimises.

    Args:
        stage: its settings.
        model: the start; it moves to the device.
    """

    own_losses: ClassVar[set[str]] = set()
    """Names of the losses that only this kind has."""

    def __init__(self, stage: Stage, model: ModelT, **tools: Unpack[SceneTools]) -> None:
        device, generators, colors = tools["device"], tools["generators"], tools["colors"]
        self.stage, self.model, self.device = stage, model.to(device), device
        self.generator = generators["rendering"]
        self.white = colors[:1].to(device)
        self.background = stage.background.build(colors, generators["initialisation"]).to(device)
        self.optimizer = self._build_optimizer()
        common = {"opaque", "opaque_entropy", "sparsity", "total_variation"} | OF_GUIDANCE | OF_PICTURES
        if unknown := stage.losses.used() - common - self.own_losses:
            raise ValueError(
                f"Expected losses that {type(model).__name__} has, but got {', '.join(sorted(unknown))}. "
                "Leave their weights at 0."
            )

    def _build_optimizer(self) -> torch.optim.Optimizer:
        model: Any = self.model
        optimizer: torch.optim.Optimizer = model.build_optimizer()
        for added in self.background.parameter_groups():
            optimizer.add_param_group(dict(added))
        for group in optimizer.param_groups:
            group["betas"] = self.stage.adam_betas
        return optimizer

    def before_step(self, step: int) -> None:
        """Set what changes with the steps: learning rates."""
        model: Any = self.model
        model.update_learning_rate(self.optimizer, step)

    @abstractmethod
    def draw(
        self,
        cameras: Cameras,
        background: Float[Tensor, "B C"] | Float[Tensor, "B H W C"],
        *,
        step: int,
        shading: Shading | None = None,
    ) -> Render:
        """Pictures of the scene, with gradients."""

    def draw_random(self, cameras: Cameras, step: int) -> Render:
        """The random views of a step, on the stage's background and in its light."""
        background = self.background(cameras, self.generator)
        shading = self.stage.shading.draw(step, cameras, self.generator) if self.stage.shading else None
        return self.draw(cameras, background, step=step, shading=shading)

    def draw_reference(self, camera: Cameras, step: int) -> Render:
        """The view of the reference picture, on white, in its own colours."""
        return self.draw(camera, self.white, step=step)

    def losses(self, step: int, random_view: Render, reference_view: Render | None) -> dict[str, Float[Tensor, ""]]:
        """The unweighted losses of the scene itself; those without weight are left out."""
        views = [random_view] if reference_view is None else [random_view, reference_view]
        known: Losses = {
            "opaque": lambda: opaque_loss(random_view.alpha),
            "opaque_entropy": lambda: total(opaque_entropy_loss(view.alpha) for view in views),
            "sparsity": lambda: sparsity_loss(random_view.alpha),
            "total_variation": lambda: total_variation_loss(random_view.color),
            **self.losses_of(views),
        }
        active = self.stage.losses.active(step)
        return {name: loss() for name, loss in known.items() if name in active}

    def losses_of(self, views: list[Render]) -> Losses:
        """The losses that only this kind has; `views` are the random view and, if there is one, the reference's."""
        return {}

    def after_backward(self) -> None:
        """Look at the gradients."""

    def after_step(self, step: int) -> None:
        """Change the scene's make-up after `step` steps."""

    def sizes(self) -> dict[str, float | Float[Tensor, ""]]:
        """How large the scene is: host numbers, and scalars where only the device knows."""
        return {}

    def counts(self) -> dict[str, float]:
        """`sizes` on the host, which waits for the device."""
        return {name: float(size) for name, size in self.sizes().items()}

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "background": self.background.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as if the run had not stopped."""
        self.model.load_state_dict(state["model"])
        self.background.load_state_dict(state["background"])
        self.optimizer = self._build_optimizer()
        load_state(self.optimizer, state["optimizer"])


def total(losses: Any) -> Float[Tensor, ""]:
    """The sum of some losses."""
    return torch.stack(list(losses)).sum()
