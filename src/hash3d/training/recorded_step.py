"""What steps of Gaussians, fields and meshes on a GPU share that are CUDA graphs: the device hardly waits for Python.

All numbers of a step go to the device in one copy. They are drawn as the plain step draws them, so that both see the
same cameras and noise. `recorded_kinds` has the two kinds of steps.
"""

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.fast.cuda_graph import WARM_UPS, beside, recorded_into, recorded_or_none
from hash3d.fast.fused_layers import fused_layers
from hash3d.guidance.base import GuidanceOutput
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Kind, Shading
from hash3d.representations.background import SolidBackgroundConfig
from hash3d.scenes.base import Look
from hash3d.schedules import size_at

from .packet import Capacities, Packet
from .watch import Metrics, rates_on_device, step_if_finite

if TYPE_CHECKING:
    from .trainer import Trainer

MAX_RECORDINGS = 24
"""Kept at once, of different numbers of samples."""
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


class Recording(NamedTuple):
    """The parts of a step, what they leave, and what they read besides the packet."""

    parts: tuple[Part, ...]
    left: tuple[Any, Any]
    """`taken`, and the U-Net's inputs."""
    pool: Any = None


class RecordedStep(ABC):
    """Takes the steps of a trainer by `parts`, which CUDA graphs can hold.

    The graphs hold the addresses of the parameters and of Adam's moments: they are made anew when these change, as in a
    densification, and when sizes or losses do. Each is of a number of samples; it serves fewer ones too.

    Args:
        trainer: whose scene, guidance and random numbers.
        views: that a step renders.
        recorded: whether to make graphs; without, the parts run as they are.
    """

    def __init__(self, trainer: "Trainer", views: int, *, recorded: bool) -> None:
        self.trainer, self.views, self.recorded = trainer, views, recorded
        self.scene: Any = trainer.scene
        self.guides = {name: cast(Any, each.guide) for name, each in trainer.guidances.items()}
        self.packet = Packet({}, trainer.device)
        solid = isinstance(trainer.stage.background, SolidBackgroundConfig)
        self.background = self.scene.white.repeat(views, 1) if solid else None
        self._light: Kind | None = None
        self._step, self._size, self._weights = 0, 0, dict[str, float]()
        self.taken: Taken | None = None
        self._inputs: Any = None
        self._rows, self._capacities = tuple[int, ...](), Capacities()
        self._replays: tuple[Part, ...] = ()
        self._key: Any = None
        self._recordings: dict[Any, Recording] = {}
        self.choice = self.scene.sample_choice(recorded=recorded, before_move=self._recordings.clear)
        self._warm: set[Any] = set()
        self._failed = False
        self._skipped = deque[Metrics]()

    @property
    @abstractmethod
    def parts(self) -> tuple[Part, ...]:
        """What a step does on the device, in order; `finish` is the end of the last."""

    @abstractmethod
    def __call__(self, step: int) -> Taken | None:
        """Take a step; None, with nothing drawn and nothing changed, where it must be taken without recording."""

    @abstractmethod
    def weigh(self, name: str, step: int) -> float:
        """The weight of a guidance's loss."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the numbers of a step."""
        views = self.views
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(ANGLES, (views,))
        shapes |= {"viewmats": (views, 4, 4), "K": (views, 3, 3), "c2w": (views, 4, 4), "lights": (views, 3)}
        rates = len(self.scene.optimizer.param_groups)
        return shapes | {"ambient": (), "diffuse": (), "weights": (len(self._weights),), "rates": (rates,)}

    def numbers(self, cameras: Cameras, look: Look) -> dict[str, Tensor]:
        """The numbers of a step, on the host; a colour goes to its place."""
        numbers = {name: getattr(cameras, name) for name in (*ANGLES, "viewmats", "K", "c2w")}
        if self.background is not None:
            assert look.background is not None
            self.background.copy_(look.background)
        self._light = look.shading.kind if look.shading and look.shading.needs_normals else None
        if look.shading:
            strengths = {name: torch.as_tensor(getattr(look.shading, name)) for name in ("ambient", "diffuse")}
            numbers |= {"lights": look.shading.lights, **strengths}
        rates = [group["lr"] for group in self.scene.optimizer.param_groups]
        return numbers | {"weights": torch.tensor([*self._weights.values()]), "rates": torch.tensor(rates)}

    def prepare(self, step: int) -> bool:
        """Whether a step can be taken by the parts. Recordings that depend on what has changed are dropped."""
        stage = self.trainer.stage
        self._step, self._size = step, size_at(stage.size, step)
        guided = {stage.guidance_loss(name): self.weigh(name, step) for name in self.guides}
        self._weights = guided | stage.losses.active(step)
        self._replays = ()
        if self._failed or not self.fits():
            return False
        sizes = self._size, size_at(stage.reference_size, step)
        autocast = torch.is_autocast_enabled("cuda")
        key = (sizes, tuple(self._weights), autocast, self.scene.recorded_form()[0]), self._addresses()
        if key != self._key:
            self._recordings.clear()  # Their memory serves the next ones.
            if self.choice is not None:
                self.choice.forget()
            if (shapes := self.shapes()) != self.packet.shapes:
                self.packet = Packet(shapes, self.trainer.device)
            self._key = key
        return True

    @property
    def is_active(self) -> bool:
        """Whether the last step was taken by the parts."""
        return bool(self._replays)

    def fits(self) -> bool:
        """Whether a step of the present scene can be recorded; of steps that may be skipped all but one are known."""
        exchanged = {"draw_random", "after_backward"} & vars(self.scene).keys()
        if exchanged or not self.scene.can_record() or not self.scene.has_room():
            return False
        while self._skipped and (self._skipped[0].arrived or len(self._skipped) > 1):
            if self._skipped.popleft()["loss"]:  # A plain step makes lists as long as they have to be.
                self._skipped.clear()
                self._key = None
                return False
        return True

    def may_overflow(self) -> bool:
        """Whether a graph's buffers might be too short; then the step is not finite."""
        return self.recorded and self.scene.may_overflow(self._size, self.views)

    def send(self, numbers: dict[str, Tensor]) -> None:
        """Send the numbers of a step, and choose what its renders look at and the recording for as much."""
        self.packet.send(numbers)
        counts = [] if self.choice is None else self._choose_samples()
        known = [capacities for light, capacities in self._recordings if light == self._light]
        self._rows = self._capacities.choose(counts, known)
        key = self._light, self._rows
        if key not in self._recordings:
            self._recordings[key] = self._make(numbers)
        found = self._recordings[key] = self._recordings.pop(key)
        self._replays, (self.taken, self._inputs) = found.parts, found.left

    def _choose_samples(self) -> list[int]:
        """Choose what a step's renders look at."""
        cameras, reference = [self._cameras()], self.trainer.reference
        if reference is not None:
            cameras.append(reference.camera(size_at(self.trainer.stage.reference_size, self._step)))
        counts: list[int] = self.scene.choose_samples(self.choice, cameras, self._step)
        self.recorded = self.recorded and not self.choice.failed
        return counts

    def _make(self, numbers: dict[str, Tensor]) -> Recording:
        """A recording for the step's rows; the parts themselves where it cannot be made, now and later."""
        plain = Recording(self.parts, (None, None))
        if not self.recorded:
            return plain
        if self._recordings and all(sum(self._rows) > sum(rows) for _, rows in self._recordings):
            self._recordings.clear()  # Their memory is too small, and would stay.
            if self.choice is not None:
                self.choice.renew()
                if self.choice.failed:
                    self.recorded = False
                    return plain
        if len(self._recordings) >= MAX_RECORDINGS:
            del self._recordings[next(iter(self._recordings))]  # Not used for longest.
        self.packet.send(numbers | {"weights": torch.tensor(math.nan)})
        form = self._key[0]
        made = recorded_or_none("A step", lambda: self._record((form, self._light)))
        self.packet.send(numbers)
        self._key = form, self._addresses()  # Adam has made its moments.
        if made is None:  # What a recording has begun is no gradient.
            self._failed = True
            self._recordings.clear()
            self.scene.optimizer.zero_grad(set_to_none=True)
            self.scene.forget()
        return made or plain

    def replay(self, part: int) -> None:
        """Run a part, the last with a look at whether the step will have been taken."""
        self._replays[part]()
        if part == len(self._replays) - 1 and self.may_overflow():
            assert self.taken is not None
            self._skipped.append(Metrics({"loss": self.taken.flags["loss"]}))

    def _addresses(self) -> tuple[int, ...]:
        """Where the graphs read and write."""
        scene = self.scene
        tensors = [next(vae.parameters()) for vae in self._autoencoders()]
        tensors += [*self._parameters(), *scene.recorded_form()[1]]
        tensors += [each for moments in scene.optimizer.state.values() for each in moments.values()]
        return id(scene.optimizer), *(each.data_ptr() for each in tensors)

    def _autoencoders(self) -> list[Any]:
        return [guide.prior.vae for guide in self.guides.values()]

    def _parameters(self) -> list[nn.Parameter]:
        return [each for group in self.scene.optimizer.param_groups for each in group["params"]]

    def _record(self, form: Any) -> Recording:
        """The parts as graphs that share their memory with all other recordings.

        What is new is called before, with weights that are no numbers: then no step is taken, and nothing is counted.
        """
        graphs = [torch.cuda.CUDAGraph() for _ in self.parts]
        with ExitStack() as layers:
            for vae in self._autoencoders():
                layers.enter_context(fused_layers(vae.to(memory_format=torch.channels_last)))
            with beside(self.trainer.device):
                for _ in range(1 if form in self._warm else WARM_UPS):
                    for part in self.parts:
                        part()
            self._warm.add(form)
            pool = next((each.pool for each in self._recordings.values()), getattr(self.choice, "pool", None))
            for graph, part in zip(graphs, self.parts, strict=True):
                with recorded_into(graph, pool, tidy=pool is None):
                    part()
                pool = pool or graph.pool()
        return Recording(tuple(graph.replay for graph in graphs), (self.taken, self._inputs), pool)

    def _cameras(self) -> Cameras:
        """The cameras of a step, on the device."""
        numbers: Any = self.packet.numbers
        angles = {name: numbers[name] for name in ANGLES}
        matrices = (numbers[name] for name in ("viewmats", "K", "c2w"))
        return Cameras(**angles, width=self._size, height=self._size).with_matrices(*matrices)

    def render(self) -> tuple[Cameras, Render, Render | None]:
        """The cameras of a step, their view and that of the reference."""
        numbers, cameras, light = self.packet.numbers, self._cameras(), None
        if self._light is not None:
            strengths = {"ambient": numbers["ambient"], "diffuse": numbers["diffuse"]}
            light = Shading(kind=self._light, lights=numbers["lights"], **strengths)
        self.scene.samples = [self.choice.read(number, rows) for number, rows in enumerate(self._rows)]
        self.scene.repeat_look(Look(self.background, light))
        self.scene.fixed = True
        try:
            return cameras, self.scene.draw_random(cameras, self._step), self.trainer.render_reference(self._step)
        finally:
            self.scene.fixed = False

    def finish(self, view: Render, reference_view: Render | None, outputs: dict[str, GuidanceOutput]) -> None:
        """Losses, gradients, the sums of a densification, and Adam. No autograd graph outlives it."""
        numbers, scene, stage = self.packet.numbers, self.scene, self.trainer.stage
        losses = {stage.guidance_loss(name): output.loss for name, output in outputs.items()}
        losses |= self.trainer.losses(self._step, view, reference_view)
        weights = dict(zip(self._weights, numbers["weights"].unbind(), strict=True))
        weighted = torch.stack(list(losses.values())) * torch.stack([weights[name] for name in losses])
        total, leaves = weighted.sum(), self._parameters() + ([] if scene.probe is None else [scene.probe])
        for leaf, each in zip(leaves, torch.autograd.grad(total, leaves, allow_unused=True), strict=True):
            alike = each is None or each.stride() == leaf.stride()
            leaf.grad = each if alike else torch.empty_like(leaf).copy_(each)  # A fused optimizer takes no other.
        scene.after_backward()
        with rates_on_device(scene.optimizer, numbers["rates"]):
            flags = step_if_finite(scene.optimizer, total)
        for leaf in leaves:
            leaf.grad = None
        scene.forget()
        flags |= {stage.guidance_loss(name): (~output.finite).to(total) for name, output in outputs.items()}
        parts = dict(zip(losses, weighted.detach().unbind(), strict=True))
        self.taken = Taken(total.detach(), parts, flags, {name: {} for name in outputs})
