"""The training that the embedded priors share: what they learn from is sampled and rendered while it runs.

Several processes (`torchrun`) average their gradients. A step never waits for the device.
"""

import json
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.fast.cuda_graph import Inputs, RecordedCall, recorded_or_none

from . import parallel
from .autoencoder import reconstruction_psnr, to_images, train_autoencoder
from .average import Average
from .train_config import TrainConfig, rate_at
from .view_buffer import VIEWS, BatchT, ViewStream, random_views
from .world.catalogue import HELD_OUT

logger = logging.getLogger(__name__)

VALIDATION_TIMESTEP = 800


def sample_timesteps(count: int, generator: torch.Generator, noisiest: float = 0.0) -> Int[Tensor, " count"]:
    """The share `noisiest` uniform in [850, 1000); of the rest seven in ten in [400, 980), the others in [0, 1000)."""
    device = generator.device
    chosen, kind = torch.rand(2, count, generator=generator, device=device)
    middle = torch.randint(400, 980, (count,), generator=generator, device=device)
    anywhere = torch.randint(0, 1000, (count,), generator=generator, device=device)
    noisy = torch.randint(850, 1000, (count,), generator=generator, device=device)
    return torch.where(chosen < noisiest, noisy, torch.where(kind < 0.7, middle, anywhere))


PriorT = TypeVar("PriorT", bound=LatentPrior)


class Training(ABC, Generic[PriorT, BatchT]):
    """One training run; `run` does it all. A subclass says what the model is, what it sees, and how it is told."""

    tunes_autoencoder = False
    """Whether a given autoencoder is trained further."""
    colored_backgrounds = 0.0
    """Share of the autoencoder's views on other backgrounds than white."""
    noisiest = 0.0
    """Share of the examples that have nearly no signal, beyond those of `sample_timesteps`."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.started = config, time.monotonic()
        self.rank, self.count, self.device = parallel.start()
        torch.manual_seed(config.seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        config.out.mkdir(parents=True, exist_ok=True)
        self.prior: PriorT = self.load(config.resume) if config.resume else self.build()
        if config.autoencoder:
            self.prior.vae = AutoencoderKL.from_pretrained(config.autoencoder)
        self.prior.requires_grad_(True).to(self.device)
        if self.device.type == "cuda":
            self.prior.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parallel.synchronise(self.prior)
        self.alphas_cumprod = self.prior.schedule.alphas_cumprod.to(self.device)
        self.generator = torch.Generator(self.device).manual_seed(config.seed * 1000 + self.rank)
        torch.manual_seed(config.seed * 1000 + self.rank + 1)
        self.progress = 0.0
        self._parameters: list[nn.Parameter] = []
        self._call: Callable[[Inputs], tuple[Tensor, ...]] | None = None
        self._stopped: tuple[float, float] | None = None

    @abstractmethod
    def load(self, folder: Path) -> PriorT:
        """The model of a folder."""

    @abstractmethod
    def build(self) -> PriorT:
        """The untrained model."""

    @abstractmethod
    def encoders(self) -> list[nn.Module]:
        """What is trained besides the U-Net."""

    @abstractmethod
    def buffer(self, **settings: Any) -> ViewStream[BatchT]:
        """An empty buffer of examples."""

    def extend(self, buffer: Any) -> None:
        """Adds to the buffer that is learned from; nothing, if a subclass does not say otherwise."""

    @abstractmethod
    def inputs(
        self, batch: BatchT, noisy: Float[Tensor, "B 4 h w"], timesteps: Int[Tensor, " B"], keep: Bool[Tensor, " B"]
    ) -> dict[str, Any]:
        """The U-Net's arguments; where `keep` is False the condition is dropped."""

    @abstractmethod
    def variants(self, batch: BatchT) -> dict[str, BatchT]:
        """Held-out batches by the name of their loss: the true one, and such with a wrong condition."""

    def loss(
        self,
        batch: BatchT,
        timesteps: Int[Tensor, " B"],
        noise: Float[Tensor, "B 4 h w"],
        keep: Bool[Tensor, " B"],
    ) -> Float[Tensor, " B"]:
        """Mean squared error of the predicted velocity (Salimans and Ho 2022), for each example."""
        latents = batch.latents.float() * self.prior.vae.config.scaling_factor
        alphas_cumprod = self.alphas_cumprod[timesteps][:, None, None, None]
        signal, sigma = alphas_cumprod.sqrt(), (1.0 - alphas_cumprod).sqrt()
        noisy, velocity = signal * latents + sigma * noise, signal * noise - sigma * latents
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            prediction = self.prior.unet(**self.inputs(batch, noisy, timesteps, keep)).sample
        return F.mse_loss(prediction.float(), velocity, reduction="none").mean((1, 2, 3))

    def run(self) -> Path:
        """Trains, and returns the prior's folder."""
        self._prepare_autoencoder()
        self._train()
        parallel.stop()
        return self.config.out / "prior"

    def report(self, row: dict[str, float]) -> None:
        """One line of `training.jsonl`, from the first process."""
        if self.rank == 0:
            logger.info("%s", {name: round(value, 5) for name, value in row.items()})
            with (self.config.out / "training.jsonl").open("a") as lines:
                lines.write(json.dumps(row) + "\n")

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    @torch.no_grad()
    def encode(self, views: Tensor) -> Tensor:
        """Latents of views, not scaled."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            latents: Tensor = self.prior.vae.encode(to_images(views)).latent_dist.mode()
        return latents.to(torch.bfloat16 if self.device.type == "cuda" else torch.float32)

    def _prepare_autoencoder(self) -> None:
        config, vae = self.config, self.prior.vae
        if not config.resume and (self.tunes_autoencoder or not config.autoencoder) and config.autoencoder_seconds > 0:
            views = self._views(
                max(2, config.batch_size // 2), self.rank, self.rank << 26, config.num_objects + config.reserve
            )
            train_autoencoder(vae, views, config.autoencoder_seconds, self.report, config.max_steps, config.compile)
            parallel.synchronise(self.prior)
            vae.register_to_config(scaling_factor=parallel.agree(vae.config.scaling_factor, self.device))
        vae.requires_grad_(False)
        held_out = next(self._views(min(64, config.num_objects), 1, HELD_OUT, 1))
        each, inside = reconstruction_psnr(vae, held_out)
        self.report({"autoencoder_psnr": float(each.median()), "autoencoder_object_psnr": inside})

    def _views(self, count: int, seed: int, first: int, num_objects: int) -> Any:
        size = self.prior.image_size
        return random_views(count, size, seed, self.device, first, num_objects, self.colored_backgrounds)

    def _filled_buffer(self, num_objects: int, first: int, seed: int, reserve: int = 0) -> ViewStream[BatchT]:
        buffer = self.buffer(
            num_objects=num_objects, views=VIEWS, size=self.prior.image_size, encode=self.encode, device=self.device,
            seed=seed, first=first, stride=self.count, reserve=reserve,
        )  # fmt: skip
        buffer.fill()
        return buffer

    def _train(self) -> None:
        config, begun = self.config, self.elapsed()
        seed = config.seed * 1000 + self.rank
        buffer = self._filled_buffer(config.num_objects, config.first_object + self.rank, seed, config.reserve)
        self.extend(buffer)
        test = self._filled_buffer(min(128, config.num_objects), HELD_OUT, 0).sample(config.batch_size)
        trained = nn.ModuleList([self.prior.unet, *self.encoders()])
        self._parameters = [each for each in trained.parameters() if each.requires_grad]
        average = Average(trained)
        optimizer = torch.optim.AdamW(
            self._parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=0.01, fused=self.device.type == "cuda"
        )
        if config.compile:
            for part in trained:
                part.compile()
        step, reported, saved, losses = 0, 0, self.elapsed(), torch.zeros((), device=self.device)
        while self.progress < 1.0:
            losses += self._step(buffer, optimizer, self._rate(step))
            average.update(trained)
            step += 1
            if step % config.refresh_every == 0:
                buffer.refresh(min(config.refresh_objects, config.num_objects))
            if step % 20 == 0 or step in (1, config.max_steps):
                self.progress = parallel.agree(max(self._share(begun), step / config.max_steps), self.device)
            if step % 200 == 0 or step == 1 or self.progress >= 1.0:
                mean = float(losses) / max(step - reported, 1)
                self.report({"step": step, "seconds": self.elapsed(), "loss": mean, "rate": self._rate(step)})
                reported = step
                losses.zero_()
            if self.rank == 0 and (self.progress >= 1.0 or self.elapsed() - saved > 100):
                saved = self.elapsed()
                average.swap(trained)
                self._validate(test, step)
                self._save()
                average.swap(trained)

    def _share(self, begun: float) -> float:
        """Share of the training's time that is over; a file `stop` shortens what is left."""
        now, config = self.elapsed(), self.config
        if self._stopped is None and (config.out / "stop").exists():
            self._stopped = now, max(self.progress, config.decay_from)
        if self._stopped is not None:
            since, reached = self._stopped
            return reached + (1 - reached) * (now - since) / config.cooldown_seconds
        return (now - begun) / max(config.seconds - begun, 1e-3)

    def _rate(self, step: int) -> float:
        start = self.config.decay_from
        fall = max(0.0, (self.progress - start) / (1 - start))
        return rate_at(self.config.learning_rate, step, 300, fall)

    def _step(self, buffer: ViewStream[BatchT], optimizer: torch.optim.Optimizer, rate: float) -> Tensor:
        """One step; returns its loss without waiting for it. A compiled one replays its gradients as a CUDA graph."""
        config, batch = self.config, buffer.sample(self.config.batch_size)
        timesteps = sample_timesteps(config.batch_size, self.generator, self.noisiest)
        noise = torch.randn(batch.latents.shape, device=self.device, generator=self.generator)
        keep = torch.rand(config.batch_size, device=self.device, generator=self.generator) >= config.drop
        inputs = {"batch": vars(batch), "timesteps": timesteps, "noise": noise, "keep": keep}
        if self._call is None:
            function = partial(self._gradients, type(batch))
            record = partial(RecordedCall, function, inputs)
            recorded = recorded_or_none("A training step", record) if config.compile else None
            self._call = recorded or (lambda inputs: function(**inputs))
        loss, *gradients = self._call(inputs)
        for parameter, gradient in zip(self._parameters, gradients, strict=True):
            parameter.grad = gradient
        parallel.average_gradients(self._parameters)
        torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        return loss

    def _gradients(
        self, kind: type[BatchT], batch: dict[str, Tensor], timesteps: Tensor, noise: Tensor, keep: Tensor
    ) -> tuple[Tensor, ...]:
        """The mean loss, and its gradients in the parameters: None where it does not depend on one."""
        with torch.enable_grad():
            loss = self.loss(kind(**batch), timesteps, noise, keep).mean()
            return loss.detach(), *torch.autograd.grad(loss, self._parameters, allow_unused=True)

    def _validate(self, batch: BatchT, step: int) -> None:
        """Held-out losses at t = 800.

        Gradients stay on: without them a compiled model would be compiled again.
        """
        noise = torch.randn(batch.latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        timesteps = torch.full((len(noise),), VALIDATION_TIMESTEP, device=self.device)
        keep = torch.ones_like(timesteps, dtype=torch.bool)
        row = {
            name: float(self.loss(variant, timesteps, noise, keep).mean().detach())
            for name, variant in self.variants(batch).items()
        }
        self.report({"step": step, **row})

    def _save(self) -> None:
        """The averaged weights in half precision."""
        half: Any = self.build()
        half.load_state_dict(self.prior.state_dict())
        half.vae.register_to_config(scaling_factor=self.prior.vae.config.scaling_factor)
        half.half().save(self.config.out / "prior")
