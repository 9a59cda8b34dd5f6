"""The two kinds of recorded steps: score distillation, in two graphs around the U-Net, and the fit of kept views."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.diffusion.noise import Timesteps
from hash3d.guidance.base import GuidanceOutput
from hash3d.guidance.latent_guidance import LatentGuidance

from .guide import scale_timesteps
from .recorded_step import Part, RecordedStep, Taken
from .replay import Replay, pixel_error

if TYPE_CHECKING:
    from .trainer import Trainer


def can_record(trainer: "Trainer") -> bool:
    """Whether a trainer's renders can be recorded: what the scene says, and of whole images."""
    stage = trainer.stage
    return trainer.scene.can_record() and (stage.pixel_stride == 1 or not (trainer.reference or trainer.replay))


def can_distil(trainer: "Trainer") -> bool:
    """Whether a trainer's steps of distillation can be recorded: plain renders, and SDS."""
    return can_record(trainer) and all(
        isinstance(each.guide, LatentGuidance)
        and type(each.guide).__call__ is LatentGuidance.__call__
        and each.guide.config.guidance_scale != 1.0
        for each in trainer.guidances.values()
    )


class RecordedDistillation(RecordedStep):
    """Steps of a trainer that `can_distil`.

    `_before` renders, encodes and adds noise; the U-Nets run as they always do, through their caches and by their own
    graphs; `_after` makes losses and gradients, counts those on the screen and takes Adam's step.
    """

    def __init__(self, trainer: "Trainer", *, recorded: bool) -> None:
        views = trainer.stage.cameras.batch_size
        super().__init__(trainer, views, recorded=recorded)
        self.predictions = dict[str, Tensor]()
        for name, guide in self.guides.items():
            shape = 4, *[guide.prior.unet.config.sample_size] * 2
            self.predictions[name] = torch.zeros(2 * views, *shape, device=trainer.device, dtype=guide.prior.dtype)
        self._between: Any = None

    def __call__(self, step: int) -> Taken | None:
        """Take a step, or None."""
        if not self.prepare(step):
            return None
        cameras, first, reach = self.trainer.sample_views(step)
        guidances = self.trainer.guidances
        timesteps = {name: scale_timesteps(first, reach, each.timestep_range(step)) for name, each in guidances.items()}
        numbers = self._draw(cameras, timesteps)
        with self.trainer.stopwatch.part("render"):
            self.send(numbers)
            self.replay(0)
        with torch.no_grad(), self.trainer.stopwatch.part("unet"):
            for name, guide in self.guides.items():
                self.predictions[name].copy_(guide.predict(self._inputs[name], timesteps[name], cameras))
                guidances[name].passes += len(cameras)
        with self.trainer.stopwatch.part("backward"):
            self.replay(1)
        assert self.taken is not None
        metrics = {name: {"timestep": float(each.float().mean())} for name, each in timesteps.items()}
        return self.taken._replace(metrics=metrics)

    @property
    def parts(self) -> tuple[Part, ...]:
        """Before the U-Nets, and after them."""
        return self._before, self._after

    def weigh(self, name: str, step: int) -> float:
        """The weight of a guidance's loss."""
        return self.trainer.stage.losses.guidances[name](step)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the numbers of a step."""
        shapes = super().shapes()
        for name, guide in self.guides.items():
            noises = ("posterior", "noise") if guide.draws_posterior else ("noise",)
            latents = self.views, *self.predictions[name].shape[1:]
            own = {"timesteps": (self.views,), "bound": (), **dict.fromkeys(noises, latents)}
            shapes |= {f"{name} {each}": shape for each, shape in own.items()}
        return shapes

    def _draw(self, cameras: Cameras, timesteps: dict[str, Timesteps]) -> dict[str, Tensor]:
        """The numbers of a step, drawn on the host."""
        numbers = self.numbers(cameras, self.scene.draw_look(cameras, self._step))
        for name, guide in self.guides.items():
            bound = guide.config.gradient_bound(self._step)
            numbers[f"{name} timesteps"] = timesteps[name]
            numbers[f"{name} bound"] = torch.tensor(math.inf if bound is None else bound)
            for each in ("posterior", "noise"):  # In the order in which a guidance draws them.
                if f"{name} {each}" in self.packet.shapes:
                    numbers[f"{name} {each}"] = guide.draw_noise(len(cameras))
        return numbers

    def _before(self) -> None:
        """Render both views, encode the random one and add noise: the U-Nets' inputs."""
        numbers = self.packet.numbers
        cameras, view, reference_view = self.render()
        self._inputs, encoded = {}, {}
        for name, guide in self.guides.items():
            latents = guide.encode(view.color, numbers.get(f"{name} posterior"))
            with torch.no_grad():
                noise, timesteps = numbers[f"{name} noise"].to(latents), numbers[f"{name} timesteps"].long()
                noisy = guide.prior.schedule.add_noise(latents.detach(), noise, timesteps)
                self._inputs[name] = guide.inputs(noisy, timesteps, cameras)
            encoded[name] = latents, noisy
        self._between = view, reference_view, encoded

    def _after(self) -> None:
        """From the U-Nets' predictions to the new scene."""
        (view, reference_view, encoded), self._between = self._between, None
        numbers, outputs = self.packet.numbers, {}
        for name, guide in self.guides.items():
            latents, noisy = encoded[name]
            timesteps, noise = numbers[f"{name} timesteps"].long(), numbers[f"{name} noise"].to(latents)
            bound = None if guide.config.max_gradient is None else numbers[f"{name} bound"]
            noise_pred = guide.guide(self.predictions[name], noisy, timesteps, guide.config.guidance_scale)
            loss, gradient = guide.loss(latents, noise_pred, noise, timesteps, bound)
            outputs[name] = GuidanceOutput(loss=loss, passes=0, predicted=gradient)
        self.finish(view, reference_view, outputs)


class RecordedFit(RecordedStep):
    """Steps of replay, whose targets are made before, once there are as many targets as a step fits.

    Args:
        replay: keeps the targets.
    """

    def __init__(self, trainer: "Trainer", replay: Replay, *, recorded: bool) -> None:
        super().__init__(trainer, replay.config.fitted, recorded=recorded)
        self.guides = {name: getattr(guide, "guidance", guide) for name, guide in self.guides.items()}
        self.kept = replay
        self.targets: Any = None

    def __call__(self, step: int) -> Taken | None:
        """Take a step, or None."""
        if not self.prepare(step):
            return None
        if (drawn := self.kept.draw(self._size)) is None:
            return None
        targets, cameras, look = drawn
        images = torch.stack(targets)
        self.targets = images.float() if self.targets is None else self.targets.copy_(images)
        with self.trainer.stopwatch.part("render"):
            self.send(self.numbers(cameras, look))
        with self.trainer.stopwatch.part("backward"):
            self.replay(0)
        return self.taken

    @property
    def parts(self) -> tuple[Part, ...]:
        """One: nothing lies between."""
        return (self._fit,)

    def fits(self) -> bool:
        """Whether there are as many targets as a step fits, and a scene that can be recorded."""
        return super().fits() and len(self.kept.targets) >= self.views

    def weigh(self, name: str, step: int) -> float:
        """The weight of a guidance's loss."""
        return self.kept.config.weight

    def _fit(self) -> None:
        """From the targets to the new Gaussians."""
        _, view, reference_view = self.render()
        error, target = pixel_error(view.color, self.targets)
        output = GuidanceOutput(loss=error, passes=0, predicted=target)
        self.finish(view, reference_view, dict.fromkeys(self.guides, output))
