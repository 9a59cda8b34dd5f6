"""The two kinds of recorded steps: score distillation, in two graphs around the U-Net, and the fit of kept views."""

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.diffusion.noise import Timesteps
from hash3d.guidance.base import GuidanceOutput
from hash3d.guidance.latent_guidance import LatentGuidance

from .recorded_step import Part, RecordedStep, Taken, can_record
from .replay import Replay, pixel_error

if TYPE_CHECKING:
    from .trainer import Trainer


def can_distil(trainer: "Trainer") -> bool:
    """Whether a trainer's steps of distillation can be recorded: plain renders, and one model's SDS."""
    guidance, *others = trainer.guidances.values()
    return (
        can_record(trainer)
        and not others
        and isinstance(guidance.guide, LatentGuidance)
        and type(guidance.guide).__call__ is LatentGuidance.__call__
        and guidance.guide.config.guidance_scale != 1.0
    )


class RecordedDistillation(RecordedStep):
    """Steps of a trainer that `can_distil`.

    `_before` renders, encodes and adds noise; the U-Net runs as it always does, through its cache and by its own
    graphs; `_after` makes losses and gradients, counts those on the screen and takes Adam's step.
    """

    def __init__(self, trainer: "Trainer", *, recorded: bool) -> None:
        views = trainer.stage.cameras.batch_size
        super().__init__(trainer, views, recorded=recorded)
        prior = self.guide.prior
        self.latents = views, 4, *[prior.unet.config.sample_size] * 2
        self.prediction = torch.zeros(2 * views, *self.latents[1:], device=trainer.device, dtype=prior.dtype)
        self._between: Any = None

    def __call__(self, step: int) -> Taken | None:
        """Take a step, or None."""
        if not self.prepare(step):
            return None
        cameras, timesteps, _ = self.trainer.sample_views(step)
        numbers = self._draw(cameras, timesteps)
        with self.trainer.stopwatch.part("render"):
            self.send(numbers)
            self.replay(0)
        with torch.no_grad(), self.trainer.stopwatch.part("unet"):
            self.prediction.copy_(self.guide.predict(self._inputs, timesteps, cameras))
        with self.trainer.stopwatch.part("backward"):
            self.replay(1)
        self.guidance.passes += len(cameras)
        assert self.taken is not None
        return self.taken._replace(metrics={self.name: {"timestep": float(timesteps.float().mean())}})

    @property
    def parts(self) -> tuple[Part, ...]:
        """Before the U-Net, and after it."""
        return self._before, self._after

    def weigh(self, step: int) -> float:
        """The weight of the guidance's loss."""
        return self.trainer.stage.losses.guidances[self.name](step)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the numbers of a step."""
        noises = ("posterior", "noise") if self.guide.draws_posterior else ("noise",)
        return {**super().shapes(), "timesteps": self.latents[:1], "bound": (), **dict.fromkeys(noises, self.latents)}

    def _draw(self, cameras: Cameras, timesteps: Timesteps) -> dict[str, Tensor]:
        """The numbers of a step, drawn on the host."""
        bound = self.guide.config.gradient_bound(self._step)
        numbers = self.numbers(cameras, self.scene.draw_look(cameras, self._step)) | {"timesteps": timesteps}
        for name in ("posterior", "noise"):  # In the order in which a guidance draws them.
            if name in self.packet.shapes:
                numbers[name] = self.guide.draw_noise(len(cameras))
        return numbers | {"bound": torch.tensor(math.inf if bound is None else bound)}

    def _before(self) -> None:
        """Render both views, encode the random one and add noise: the U-Net's inputs."""
        numbers = self.packet.numbers
        cameras, view, reference_view = self.render()
        latents = self.guide.encode(view.color, numbers.get("posterior"))
        with torch.no_grad():
            noise, timesteps = numbers["noise"].to(latents), numbers["timesteps"].long()
            noisy = self.guide.prior.schedule.add_noise(latents.detach(), noise, timesteps)
            self._inputs = self.guide.inputs(noisy, timesteps, cameras)
        self._between = view, reference_view, latents, noisy

    def _after(self) -> None:
        """From the U-Net's prediction to the new Gaussians."""
        (view, reference_view, latents, noisy), self._between = self._between, None
        numbers, guide = self.packet.numbers, self.guide
        timesteps, noise = numbers["timesteps"].long(), numbers["noise"].to(latents)
        bound = None if guide.config.max_gradient is None else numbers["bound"]
        noise_pred = guide.guide(self.prediction, noisy, timesteps, guide.config.guidance_scale)
        loss, gradient = guide.loss(latents, noise_pred, noise, timesteps, bound)
        self.finish(view, reference_view, GuidanceOutput(loss=loss, passes=0, predicted=gradient))


class RecordedFit(RecordedStep):
    """Steps of replay, whose targets are made before, once there are as many targets as a step fits.

    Args:
        replay: keeps the targets.
    """

    def __init__(self, trainer: "Trainer", replay: Replay, *, recorded: bool) -> None:
        super().__init__(trainer, replay.config.fitted, recorded=recorded)
        self.guide, self.kept = getattr(self.guide, "guidance", self.guide), replay
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

    def weigh(self, step: int) -> float:
        """The weight of the guidance's loss."""
        return self.kept.config.weight

    def _fit(self) -> None:
        """From the targets to the new Gaussians."""
        _, view, reference_view = self.render()
        error, target = pixel_error(view.color, self.targets)
        self.finish(view, reference_view, GuidanceOutput(loss=error, passes=0, predicted=target))
