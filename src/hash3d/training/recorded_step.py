"""A step of Gaussians on a GPU as two CUDA graphs around the U-Net: the device never waits for Python.

`before` renders, encodes and adds noise; the U-Net then runs as it always does, through its cache and by its own
graphs; `after` makes losses and gradients, counts those on the screen and takes Adam's step. All numbers of a step go
to the device in one copy. They are drawn as the plain step draws them, so that both see the same cameras and noise.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.diffusion.noise import Timesteps
from hash3d.fast.cuda_graph import WARM_UPS, beside, recorded_into, recorded_or_none
from hash3d.fast.fused_layers import fused_layers
from hash3d.guidance.base import GuidanceOutput
from hash3d.guidance.latent_guidance import LatentGuidance
from hash3d.representations.background import SolidBackgroundConfig
from hash3d.scenes.base import Look
from hash3d.scenes.gaussians import GaussianScene
from hash3d.schedules import size_at

from .watch import step_if_finite

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


def can_record(trainer: "Trainer") -> bool:
    """Whether a trainer's steps can be recorded: Gaussians on one colour without light, and one model's SDS."""
    stage, (guidance, *others) = trainer.stage, trainer.guidances.values()
    renderer: Any = stage.renderer
    return (
        isinstance(trainer.scene, GaussianScene)
        and isinstance(guidance.guide, LatentGuidance)
        and type(guidance.guide).__call__ is LatentGuidance.__call__
        and guidance.guide.config.guidance_scale != 1.0
        and isinstance(stage.background, SolidBackgroundConfig)
        and not (others or stage.shading or "shape_variation" in stage.losses.used())
        and renderer.backend in ("auto", "triton")
    )


class RecordedStep:
    """Takes the steps of a trainer that `can_record`.

    The graphs hold the addresses of the Gaussians and of Adam's moments: they are made anew when these change, as in a
    densification, and when sizes or losses do.

    Args:
        trainer: whose scene, guidance and random numbers.
        recorded: whether to make graphs; without, the same functions run as they are.
    """

    def __init__(self, trainer: "Trainer", *, recorded: bool) -> None:
        self.trainer, self.recorded = trainer, recorded
        self.scene: Any = trainer.scene
        ((self.name, self.guidance),) = trainer.guidances.items()
        self.guide = cast(Any, self.guidance.guide)
        self._between: Any = None
        prior, views = self.guide.prior, trainer.stage.cameras.batch_size
        self.latents = views, 4, *[prior.unet.config.sample_size] * 2
        self.packet = Packet({}, trainer.device)
        self.background = torch.zeros(views, 3, device=trainer.device)
        self.prediction = torch.zeros(2 * views, *self.latents[1:], device=trainer.device, dtype=prior.dtype)
        self._step, self._size, self._weights = 0, 0, dict[str, float]()
        self._parts: tuple[Part, Part] | None = None
        self._key: Any = None
        self._warm: set[Any] = set()
        self._failed = False

    def __call__(self, step: int) -> Taken | None:
        """Take a step; None, with nothing drawn and nothing changed, where it must be taken without recording."""
        parts = self.prepare(step)
        if parts is None:
            return None
        cameras, timesteps, _ = self.trainer.sample_views(step)
        self.packet.send(self._draw(cameras, timesteps))
        with self.trainer.stopwatch.part("render"):
            parts[0]()
        with torch.no_grad(), self.trainer.stopwatch.part("unet"):
            self.prediction.copy_(self.guide.predict(self._inputs, timesteps, cameras))
        with self.trainer.stopwatch.part("backward"):
            parts[1]()
        self.guidance.passes += len(cameras)
        return self._taken._replace(metrics={self.name: {"timestep": float(timesteps.float().mean())}})

    def prepare(self, step: int) -> tuple[Part, Part] | None:
        """Both parts of a step: those that were made, unless what they depend on has changed."""
        stage = self.trainer.stage
        self._step, self._size = step, size_at(stage.size, step)
        weights = {f"{stage.prefix(self.name)}guidance": stage.losses.guidances[self.name](step)}
        self._weights = weights | stage.losses.active(step)
        sizes = self._size, size_at(stage.reference_size, step)
        form = sizes, tuple(self._weights), torch.is_autocast_enabled("cuda")
        if self._failed or not self._fits():
            return None
        if (form, self._addresses()) != self._key:
            self._parts = None  # Its memory serves the next ones.
            self._allocate()
            self._parts = recorded_or_none("A step", lambda: self._record(form)) if self.recorded else self._plain
            self._key = form, self._addresses()
            if self._parts is None:  # What a recording has begun is no gradient.
                self._failed, self._between = True, None
                self.scene.optimizer.zero_grad(set_to_none=True)
                self.scene.forget()
        return self._parts

    @property
    def is_active(self) -> bool:
        """Whether the last step was taken by these parts."""
        return self._parts is not None

    def _fits(self) -> bool:
        """Whether a step of the present scene can be recorded: of some Gaussians, by the scene's own methods."""
        if not len(self.scene.model) or {"draw_random", "after_backward"} & vars(self.scene).keys():
            return False
        if not self.recorded:
            return True
        from hash3d.rendering._triton_splat import BIN, SURE_CAPACITY

        return len(self.background) * math.ceil(self._size / BIN) ** 2 * len(self.scene.model) <= SURE_CAPACITY

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

    def _allocate(self) -> None:
        """A packet for the numbers of a step."""
        groups, views = self.scene.optimizer.param_groups, len(self.background)
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys((*ANGLES, "timesteps"), (views,))
        shapes |= {"viewmats": (views, 4, 4), "K": (views, 3, 3), "noise": self.latents, "bound": ()}
        shapes |= {"posterior": self.latents} if self.guide.config.sample_latents else {}
        shapes |= {"weights": (len(self._weights),), "rates": (len(groups),)}
        if shapes != self.packet.shapes:
            self.packet = Packet(shapes, self.trainer.device)

    def _draw(self, cameras: Cameras, timesteps: Timesteps) -> dict[str, Tensor]:
        """The numbers of a step, drawn on the host."""
        look = self.scene.draw_look(cameras, self._step)
        self.background.copy_(look.background)
        bound = self.guide.config.gradient_bound(self._step)
        numbers = {name: getattr(cameras, name) for name in ANGLES} | {"timesteps": timesteps}
        numbers |= {"viewmats": cameras.viewmats, "K": cameras.K}
        for name in ("posterior", "noise"):  # In the order in which a guidance draws them.
            if name in self.packet.shapes:
                numbers[name] = self.guide.draw_noise(len(cameras))
        rates = [group["lr"] for group in self.scene.optimizer.param_groups]
        numbers |= {"weights": torch.tensor([*self._weights.values()]), "rates": torch.tensor(rates)}
        return numbers | {"bound": torch.tensor(math.inf if bound is None else bound)}

    def _record(self, form: Any) -> tuple[Part, Part]:
        """Both parts as graphs that share their memory.

        What is new is called before, with weights that are no numbers: then no step is taken, and nothing is counted.
        """
        vae, device = self.guide.prior.vae.to(memory_format=torch.channels_last), self.trainer.device
        form = form, (len(self.scene.model) - 1).bit_length()  # Sorting has other kernels from 4097 on.
        first, second = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        with fused_layers(vae):
            if form not in self._warm:
                self.packet.send({"weights": torch.tensor(math.nan)})
                with beside(device):
                    for _ in range(WARM_UPS):
                        self._before()
                        self._after()
                self._warm.add(form)
            with recorded_into(first):
                self._before()
            with recorded_into(second, first.pool()):
                self._after()
        return first.replay, second.replay

    @property
    def _plain(self) -> tuple[Part, Part]:
        """Both parts without graphs."""
        return self._before, self._after

    def _timesteps(self) -> Timesteps:
        return self.packet.numbers["timesteps"].long()

    def _before(self) -> None:
        """Render both views, encode the random one and add noise: the U-Net's inputs."""
        numbers, size = self.packet.numbers, self._size
        angles = {name: numbers[name] for name in ANGLES}
        cameras = Cameras(**angles, width=size, height=size).with_matrices(numbers["viewmats"], numbers["K"])
        self.scene.repeat_look(Look(self.background, None))
        view = self.scene.draw_random(cameras, self._step)
        reference_view = self.trainer.render_reference(self._step)
        latents = self.guide.encode(view.color, numbers.get("posterior"))
        with torch.no_grad():
            noise, timesteps = numbers["noise"].to(latents), self._timesteps()
            noisy = self.guide.prior.schedule.add_noise(latents.detach(), noise, timesteps)
            self._inputs = self.guide.inputs(noisy, timesteps, cameras)
        self._between = view, reference_view, latents, noisy

    def _after(self) -> None:
        """Losses, gradients, the sums of a densification, and Adam. No autograd graph outlives it."""
        (view, reference_view, latents, noisy), self._between = self._between, None
        numbers, scene, guide, timesteps = self.packet.numbers, self.scene, self.guide, self._timesteps()
        bound = None if guide.config.max_gradient is None else numbers["bound"]
        noise_pred = guide.guide(self.prediction, noisy, timesteps, guide.config.guidance_scale)
        loss, gradient = guide.loss(latents, noise_pred, numbers["noise"].to(latents), timesteps, bound)
        losses = {next(iter(self._weights)): loss} | self.trainer.losses(self._step, view, reference_view)
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
        finite = GuidanceOutput(loss=loss.detach(), passes=0, predicted=gradient).finite
        flags[next(iter(self._weights))] = (~finite).to(total)
        parts = dict(zip(losses, weighted.detach().unbind(), strict=True))
        self._taken = Taken(total.detach(), parts, flags, {})


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
