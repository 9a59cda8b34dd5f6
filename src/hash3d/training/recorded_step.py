"""What steps of Gaussians on a GPU share that are CUDA graphs: the device never waits for Python.

All numbers of a step go to the device in one copy. They are drawn as the plain step draws them, so that both see the
same cameras and noise. `recorded_kinds` has the two kinds of steps.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.fast.cuda_graph import WARM_UPS, beside, recorded_into, recorded_or_none
from hash3d.fast.fused_layers import fused_layers
from hash3d.guidance.base import GuidanceOutput
from hash3d.rendering.base import Render
from hash3d.representations.background import SolidBackgroundConfig
from hash3d.scenes.base import Look
from hash3d.scenes.gaussians import GaussianScene
from hash3d.schedules import size_at

from .watch import Metrics, step_if_finite

if TYPE_CHECKING:
    from .trainer import Trainer

ANGLES = ("elevation", "azimuth", "radius", "fov_y")
Part = Callable[[], None]


class Taken(NamedTuple):
    """What a step computed, on the device, and what the host knows of its guidances."""

    loss: Float[Tensor, ""]
    parts: dict[str, Float[Tensor, ""]]
    """The weighted losses by name."""
    flags: dict[str, Float[Tensor, ""]]
    """1 for what is not finite."""
    metrics: dict[str, dict[str, float]]
    """Numbers of each guidance that was asked."""


class Packet:
    """The numbers of a step by name: written on the host, and copied to the device at once.

    Buffers take turns, each waited for before it is written again; by then that copy is long over.

    Args:
        shapes: of the numbers, all in float32.
        device: where they are read.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]], device: torch.device, turns: int = 3) -> None:
        self.shapes, self._on_gpu, self._turn = dict(shapes), device.type == "cuda", 0
        size = sum(torch.Size(shape).numel() for shape in shapes.values())
        self._host = [torch.zeros(size, pin_memory=self._on_gpu) for _ in range(turns)]
        self._copied = [torch.cuda.Event() if self._on_gpu else None for _ in range(turns)]
        self._device = torch.zeros(size, device=device)
        self._slices = [self._split(flat) for flat in self._host]
        self.numbers = self._split(self._device)
        """Where they are read; they stay in place."""

    def _split(self, flat: Float[Tensor, " n"]) -> dict[str, Tensor]:
        sizes = [torch.Size(shape).numel() for shape in self.shapes.values()]
        parts = zip(self.shapes.items(), flat.split(sizes), strict=True)
        return {name: part.view(shape) for (name, shape), part in parts}

    def send(self, numbers: Mapping[str, Tensor]) -> None:
        """Send numbers on their way; those that are not given are what they were in this buffer."""
        self._turn = (self._turn + 1) % len(self._host)
        copied = self._copied[self._turn]
        if copied is not None:
            copied.synchronize()
        for name, value in numbers.items():
            self._slices[self._turn][name].copy_(value)
        self._device.copy_(self._host[self._turn], non_blocking=True)
        if copied is not None:
            copied.record()


class RecordedStep(ABC):
    """Takes the steps of a trainer by `parts`, which CUDA graphs can hold.

    The graphs hold the addresses of the Gaussians and of Adam's moments: they are made anew when these change, as in a
    densification, and when sizes or losses do.

    Args:
        trainer: whose scene, guidance and random numbers.
        views: that a step renders.
        recorded: whether to make graphs; without, the parts run as they are.
    """

    def __init__(self, trainer: "Trainer", views: int, *, recorded: bool) -> None:
        self.trainer, self.recorded = trainer, recorded
        self.scene: Any = trainer.scene
        ((self.name, self.guidance),) = trainer.guidances.items()
        self.guide = cast(Any, self.guidance.guide)
        self.packet = Packet({}, trainer.device)
        self.background = torch.zeros(views, 3, device=trainer.device)
        self._step, self._size, self._weights = 0, 0, dict[str, float]()
        self._replays: tuple[Part, ...] = ()
        self._key: Any = None
        self._warm: set[Any] = set()
        self._failed = False
        self._skipped: Metrics | None = None

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """What a step does on the device, in order; `finish` is the end of the last."""

    @abstractmethod
    def __call__(self, step: int) -> Taken | None:
        """Take a step; None, with nothing drawn and nothing changed, where it must be taken without recording."""

    @abstractmethod
    def weigh(self, step: int) -> float:
        """The weight of the guidance's loss."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the numbers of a step."""
        views = len(self.background)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(ANGLES, (views,))
        shapes |= {"viewmats": (views, 4, 4), "K": (views, 3, 3)}
        return shapes | {"weights": (len(self._weights),), "rates": (len(self.scene.optimizer.param_groups),)}

    def numbers(self, cameras: Cameras) -> dict[str, Tensor]:
        """The numbers of a step, on the host."""
        numbers = {name: getattr(cameras, name) for name in ANGLES}
        numbers |= {"viewmats": cameras.viewmats, "K": cameras.K}
        rates = [group["lr"] for group in self.scene.optimizer.param_groups]
        return numbers | {"weights": torch.tensor([*self._weights.values()]), "rates": torch.tensor(rates)}

    def prepare(self, step: int) -> tuple[Part, ...]:
        """The parts of a step, recorded unless what they depend on stayed; none where it cannot be recorded."""
        stage = self.trainer.stage
        self._step, self._size = step, size_at(stage.size, step)
        self._weights = {f"{stage.prefix(self.name)}guidance": self.weigh(step)} | stage.losses.active(step)
        if self._failed or not self.fits():
            return ()
        sizes = self._size, size_at(stage.reference_size, step)
        form = sizes, tuple(self._weights), torch.is_autocast_enabled("cuda")
        if (form, self._addresses()) != self._key:
            self._replays = ()  # Their memory serves the next ones.
            if (shapes := self.shapes()) != self.packet.shapes:
                self.packet = Packet(shapes, self.trainer.device)
            made = recorded_or_none("A step", lambda: self._record(form)) if self.recorded else self.parts
            self._key = form, self._addresses()
            if made is None:  # What a recording has begun is no gradient.
                self._failed = True
                self.scene.optimizer.zero_grad(set_to_none=True)
                self.scene.forget()
            self._replays = made or ()
        return self._replays

    @property
    def is_active(self) -> bool:
        """Whether the last step was taken by the parts."""
        return bool(self._replays)

    def fits(self) -> bool:
        """Whether a step of the present scene can be recorded: of some Gaussians, by the scene's own methods."""
        if not len(self.scene.model) or {"draw_random", "after_backward"} & vars(self.scene).keys():
            return False
        if self._skipped is not None and self._skipped.arrived:
            skipped, self._skipped = self._skipped, None
            if skipped["loss"]:  # A plain step makes lists as long as they have to be.
                self._replays, self._key = (), None
                return False
        return True

    def may_overflow(self) -> bool:
        """Whether the rasteriser's lists might be too short in a graph; then the step is not finite."""
        if not self.recorded:
            return False
        from hash3d.rendering._triton_splat import RESERVE, full_capacity

        sizes = (self._size, self._size), len(self.background), len(self.scene.model)
        return full_capacity(*sizes) > RESERVE["places"]

    def replay(self, part: int) -> None:
        """Run a part, the last with a look at whether the step will have been taken."""
        self._replays[part]()
        if part == len(self._replays) - 1 and self._skipped is None and self.may_overflow():
            self._skipped = Metrics({"loss": self.taken.flags["loss"]})

    def _addresses(self) -> tuple[int, ...]:
        """Where the graphs read and write."""
        scene = self.scene
        tensors = [next(self.guide.prior.vae.parameters()), *self._parameters()]
        tensors += [each for moments in scene.optimizer.state.values() for each in moments.values()]
        if scene.densifier:
            tensors += [scene.densifier.total, scene.densifier.views]
        return id(scene.optimizer), *(each.data_ptr() for each in tensors)

    def _parameters(self) -> list[nn.Parameter]:
        return [each for group in self.scene.optimizer.param_groups for each in group["params"]]

    def _record(self, form: Any) -> tuple[Part, ...]:
        """The parts as graphs that share their memory.

        What is new is called before, with weights that are no numbers: then no step is taken, and nothing is counted.
        """
        vae, device = self.guide.prior.vae.to(memory_format=torch.channels_last), self.trainer.device
        form = form, (len(self.scene.model) - 1).bit_length()  # Sorting has other kernels from 4097 on.
        graphs = [torch.cuda.CUDAGraph() for _ in self.parts]
        with fused_layers(vae):
            if form not in self._warm:
                config, turns = self.trainer.stage.cameras, [0.0] * len(self.background)
                cameras = Cameras.orbit(
                    elevation=turns, azimuth=0.0, radius=config.radius, fov_y=config.fov_y, size=self._size
                )
                self.packet.send(self.numbers(cameras) | {"weights": torch.tensor(math.nan)})
                with beside(device):
                    for _ in range(WARM_UPS):
                        for part in self.parts:
                            part()
                self._warm.add(form)
            for number, (graph, part) in enumerate(zip(graphs, self.parts, strict=True)):
                with recorded_into(graph, graphs[0].pool() if number else None):
                    part()
        return tuple(graph.replay for graph in graphs)

    def render(self) -> tuple[Cameras, Render, Render | None]:
        """The cameras of a step, their view and that of the reference."""
        numbers, size = self.packet.numbers, self._size
        angles: dict[str, Any] = {name: numbers[name] for name in ANGLES}
        cameras = Cameras(**angles, width=size, height=size).with_matrices(numbers["viewmats"], numbers["K"])
        self.scene.repeat_look(Look(self.background, None))
        return cameras, self.scene.draw_random(cameras, self._step), self.trainer.render_reference(self._step)

    def finish(self, view: Render, reference_view: Render | None, output: GuidanceOutput) -> None:
        """Losses, gradients, the sums of a densification, and Adam. No autograd graph outlives it."""
        numbers, scene, (guided, *_) = self.packet.numbers, self.scene, self._weights
        losses = {guided: output.loss} | self.trainer.losses(self._step, view, reference_view)
        weights = dict(zip(self._weights, numbers["weights"].unbind(), strict=True))
        weighted = torch.stack(list(losses.values())) * torch.stack([weights[name] for name in losses])
        total, leaves = weighted.sum(), [*self._parameters(), scene.probe]
        for leaf, each in zip(leaves, torch.autograd.grad(total, leaves), strict=True):
            leaf.grad = each
        scene.after_backward()
        with rates_on_device(scene.optimizer, numbers["rates"]):
            flags = step_if_finite(scene.optimizer, total)
        for leaf in leaves:
            leaf.grad = None
        scene.forget()
        flags[guided] = (~output.finite).to(total)
        parts = dict(zip(losses, weighted.detach().unbind(), strict=True))
        self.taken = Taken(total.detach(), parts, flags, {self.name: {}})


def draws_plainly(trainer: "Trainer") -> bool:
    """Whether a trainer's renders can be recorded: of Gaussians on one colour without light."""
    stage, renderer = trainer.stage, cast(Any, trainer.stage.renderer)
    return (
        isinstance(trainer.scene, GaussianScene)
        and isinstance(stage.background, SolidBackgroundConfig)
        and not (stage.shading or "shape_variation" in stage.losses.used())
        and renderer.backend in ("auto", "triton")
    )


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
