"""A scene in training: a model, its background, its optimizer and its renderer. One kind for each representation.

A kind also says what its models start from, how they are shown, saved and exported: all that another representation
has to bring. Naming its configuration makes it known: `class PointScene(Scene[Points], represents=PointsConfig)`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, TypedDict, TypeVar, Unpack, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.export.mesh import BakedMesh
from hash3d.files import load_tensors, save_tensors
from hash3d.meshing.asset import Painter, bake_asset
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Config, Stage
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Shading
from hash3d.representations.optimizer import load_state

from .convert import no_way
from .losses import opaque_entropy_loss, opaque_loss, sparsity_loss, total, total_variation_loss
from .show import Show

Behind = Float[Tensor, "B C"] | Float[Tensor, "B H W C"]
"""The background of each view: one colour, or an image."""
Losses = dict[str, Callable[[], Float[Tensor, ""]]]
"""Losses by name, each computed when it is called."""
ModelT = TypeVar("ModelT", bound=nn.Module)
ConfigT = TypeVar("ConfigT")
COUNTED = ("gaussians", "occupied", "faces")
"""What the kinds of scenes count (`Scene.sizes`), as the metrics have it."""
REFERENCE_LOSSES = {"color", "mask", "mask_entropy"}
KINDS: dict[type, type["Scene[Any]"]] = {}
"""The kinds of scenes by the configuration of what they optimise; `find_kind` looks here."""


@dataclass(frozen=True)
class Look:
    """What B random views are sampled with, besides their cameras."""

    background: Float[Tensor, "B C"] | None
    """Their solid colours; None is a learned background."""
    shading: Shading | None


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
    file: ClassVar[str] = "model.pt"
    """The name of the model's file in a run folder."""
    writes_mesh: ClassVar[bool] = True
    """Whether a run writes a mesh of its own accord; `bake` makes one."""
    slow: ClassVar[bool] = False
    """Whether rendering takes long: turntables then have fewer and smaller frames."""
    probe: Tensor | None = None
    """What besides the parameters gets a gradient."""
    fixed: bool = False
    """Whether the renders of a step are to have shapes that do not depend on the scene, as CUDA graphs need it."""

    def __init_subclass__(cls, represents: type | None = None, **others: Any) -> None:
        """Make the kind known as that of `represents`, the class of a stage's `representation`."""
        super().__init_subclass__(**others)
        if represents is not None:
            KINDS[represents] = cls

    def __init__(self, stage: Stage, model: ModelT, **tools: Unpack[SceneTools]) -> None:
        device, generators, colors = tools["device"], tools["generators"], tools["colors"]
        self.stage, self.model, self.device = stage, model.to(device), device
        self.generator = generators["rendering"]
        self.white = colors[:1].to(device)
        self.look, self._next_look = Look(None, None), cast(Look | None, None)
        self.samples: list[dict[str, Tensor]] = []
        self.background = stage.background.build(colors, generators["initialisation"]).to(device)
        self.optimizer = self._build_optimizer()
        common = {"opaque", "opaque_entropy", "sparsity", "total_variation"} | REFERENCE_LOSSES
        if unknown := stage.losses.used() - common - self.own_losses:
            raise ValueError(
                f"Expected losses that {type(model).__name__} has, but got {', '.join(sorted(unknown))}. "
                "Leave their weights at 0."
            )

    @classmethod
    def start(cls, recipe: Recipe, generator: torch.Generator) -> ModelT:
        """The model of a first stage, on the CPU."""
        config: Any = recipe.stage.representation
        return config.build(generator)

    @classmethod
    def start_from(cls, previous: nn.Module, recipe: Recipe, generator: torch.Generator) -> ModelT:
        """The model of a second stage, on the CPU, from what the first has made."""
        raise no_way(previous, recipe.stages[-1])

    @classmethod
    def blank(cls, recipe: Recipe) -> ModelT:
        """The model of the last stage before its values are loaded."""
        config: Any = recipe.stages[-1].representation
        return config.build(torch.Generator().manual_seed(0))

    @classmethod
    def show(cls, model: ModelT, stage: Stage, prior: LatentPrior | None = None) -> Show:
        """A function that renders a model on white, without gradients and without light."""
        config: Any = stage.renderer
        renderer, device = config.build(), next(model.parameters()).device

        @torch.no_grad()
        def show(cameras: Cameras) -> Render:
            render: Render = renderer(model, cameras, torch.ones(len(cameras), 3, device=device))
            return render

        return show

    @classmethod
    def save(cls, model: ModelT, path: Path) -> None:
        """Write the model's file."""
        save_tensors(path, model.state_dict())

    @classmethod
    def load(cls, model: ModelT, path: Path) -> None:
        """Read the values of a blank model. Raises `ValueError` if the file cannot be read."""
        try:
            model.load_state_dict(load_tensors(path, "cpu", sealed=False))
        except (ValueError, RuntimeError, AttributeError) as error:
            raise ValueError(
                f"Expected the model of this run in {path}, but it cannot be read: {error} Run it again."
            ) from error

    @classmethod
    def bake(cls, model: ModelT, stage: Stage, paint: Painter | None = None, max_faces: int | None = None) -> BakedMesh:
        """The model as a mesh with a texture, on the CPU; `paint` gives other colours than its own."""
        scene: Any = model
        return bake_asset(scene, stage.surface, paint=paint, max_faces=max_faces)

    @classmethod
    def write_splats(cls, model: ModelT, path: Path) -> None:
        """Write the model as a file of splats: .ply, .splat or .glb. Raises `ValueError` if it has none."""
        raise ValueError(f"Expected splats to write, but a {type(model).__name__} has none. Export glb or obj.")

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
    def render(self, cameras: Cameras, background: Behind, *, step: int, shading: Shading | None = None) -> Render:
        """Render the scene, with gradients."""

    def draw_random(self, cameras: Cameras, step: int) -> Render:
        """Render random views with a sampled background and light, or under the look that `repeat_look` has set."""
        self.look, self._next_look = self._next_look or self.draw_look(cameras, step), None
        background = self.background(cameras) if self.look.background is None else self.look.background
        return self.render(cameras, background, step=step, shading=self.look.shading)

    def repeat_look(self, look: Look) -> None:
        """Let the next random views have a background and a light that others had: their `look`."""
        self._next_look = look

    def draw_look(self, cameras: Cameras, step: int) -> Look:
        """Sample a background and light for random views."""
        background = self.background.draw(len(cameras), self.generator)
        return Look(background, self.stage.shading.draw(step, cameras, self.generator) if self.stage.shading else None)

    def render_reference(self, camera: Cameras, step: int) -> Render:
        """The view of the reference image, on white, in its own colours."""
        return self.render(camera, self.white, step=step)

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

    def can_record(self) -> bool:
        """Whether CUDA graphs can hold a step's renders and losses."""
        return False

    def has_room(self) -> bool:
        """Whether it is known how many rows the graphs need; a plain step finds out."""
        return True

    def recorded_form(self) -> tuple[Any, list[Tensor]]:
        """What these graphs depend on besides the parameters: host values, and tensors that they write to."""
        return (), []

    def sample_choice(self, *, recorded: bool, before_move: Callable[[], None]) -> Any:
        """What chooses ahead what a step's renders look at (`SampleChoice`), or None; `samples` then has it."""
        return None

    def choose_samples(self, choice: Any, cameras: list[Cameras], step: int) -> list[int]:
        """Choose for renders by these cameras, and return how many samples each has."""
        return []

    def may_overflow(self, size: int, views: int) -> bool:
        """Whether the graphs' buffers might be too short for images of `size` pixels; then a step is not finite."""
        return False

    def after_backward(self) -> None:
        """Look at the gradients."""

    def after_step(self, step: int) -> None:
        """Change the scene's make-up after `step` steps."""
        self.forget()

    def forget(self) -> None:
        """Drop what was computed from the model's values, which have changed."""

    def helpers(self) -> dict[str, Any]:
        """What has a state besides model, background and optimizer, by name; None where a stage has none."""
        return {}

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
            **{name: None if each is None else each.state_dict() for name, each in self.helpers().items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as if the run had not stopped."""
        self.model.load_state_dict(state["model"])
        self.background.load_state_dict(state["background"])
        self.optimizer = self._build_optimizer()
        load_state(self.optimizer, state["optimizer"])
        for name, helper in self.helpers().items():
            if helper is not None:
                helper.load_state_dict(state[name])
        self.forget()


def find_kind(config: Config) -> type[Scene[Any]]:
    """The kind of scene that optimises a representation, by its configuration or a base class of it."""
    for each in type(config).__mro__:
        if each in KINDS:
            return KINDS[each]
    name = type(config).__name__
    raise ValueError(f"Expected a representation with a scene, but {name} has none. Make a Scene represents={name}.")


def expect_config(config: object, kind: type[ConfigT], stage: Stage) -> ConfigT:
    """A stage's renderer or representation, of the kind that its scene needs; `ValueError` for another."""
    if not isinstance(config, kind):
        name = type(stage.representation).__name__
        raise ValueError(f"Expected a {kind.__name__} for a {name}, but got a {type(config).__name__}.")
    return config
