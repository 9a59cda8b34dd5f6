"""Trains `mini-zero123`, the embedded prior: one picture and a relative pose to a new view.

    python -m hash3d.priors.mini_zero123 --out FOLDER
    torchrun --nproc-per-node 4 -m hash3d.priors.mini_zero123 --out FOLDER

Everything it learns from is drawn and rendered while it runs. Several processes average their gradients.
"""

import json
import logging
import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.diffusion.pose import pose_numbers
from hash3d.diffusion.zero123 import ImageCondition, Zero123Prior
from hash3d.priors import parallel
from hash3d.priors.architecture import Architecture, build_prior
from hash3d.priors.autoencoder import reconstruction_psnr, to_images, train_autoencoder
from hash3d.priors.average import Average
from hash3d.priors.pool import Pairs, ViewPool, random_views
from hash3d.priors.world.catalogue import HELD_OUT

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How the prior is trained."""

    out: Path
    """Folder for the prior (`prior/`) and the loss curves (`training.jsonl`)."""
    seconds: float = 540.0
    """Time for everything, the autoencoder included."""
    autoencoder_seconds: float = 75.0
    """Time for the autoencoder; none is spent if `resume` or `autoencoder` gives one."""
    resume: Path | None = None
    """A prior to start from."""
    autoencoder: Path | None = None
    """A prior's `vae` folder to use."""
    batch_size: int = 256
    """Pairs a step and process."""
    learning_rate: float = 5e-4
    """Peak rate of AdamW."""
    decay_from: float = 0.5
    """Share of the time after which the rate falls (a cosine to a hundredth)."""
    drop: float = 0.12
    """Share of pairs without their condition, for guidance."""
    num_objects: int = 8192
    """Objects in each process's pool, with eight views each."""
    reserve: int = 100_000
    """Objects that wait to enter a process's pool."""
    refresh_every: int = 16
    """Steps between two refreshes of `refresh_objects` objects."""
    refresh_objects: int = 128
    """Objects replaced by a refresh."""
    first_object: int = 0
    """Number of the first object; a resumed run takes another to see new ones."""
    seed: int = 0
    """Of weights, noise and draws."""
    compile: bool = False
    """Compile the U-Net and the image encoder (CUDA)."""
    max_steps: int = 10_000_000
    """Ends earlier, for tests."""
    architecture: Architecture = field(default_factory=Architecture)


def draw_timesteps(count: int, generator: torch.Generator) -> Tensor:
    """Seven in ten uniform in [400, 980), where score distillation works; the rest uniform in [0, 1000)."""
    middle = torch.randint(400, 980, (count,), generator=generator)
    anywhere = torch.randint(0, 1000, (count,), generator=generator)
    return torch.where(torch.rand(count, generator=generator) < 0.7, middle, anywhere)


def pose_of(prior: Zero123Prior, pairs: Pairs, device: torch.device) -> Float[Tensor, "B 4"]:
    """The pose numbers of pairs."""
    return pose_numbers(
        elevation=pairs.elevation,
        relative_azimuth=pairs.relative_azimuth,
        relative_radius=torch.zeros_like(pairs.elevation),
        reference_elevation=pairs.reference_elevation,
        variant=prior.pose_variant,
    ).to(device, non_blocking=True)


def denoising_loss(
    prior: Zero123Prior, pairs: Pairs, timesteps: Tensor, noise: Tensor, pose: Tensor, keep: Tensor
) -> Float[Tensor, " B"]:
    """Mean squared error of the predicted velocity, for each pair."""
    latents = pairs.latents.float() * prior.vae.config.scaling_factor
    noisy = prior.schedule.add_noise(latents, noise, timesteps)
    target = prior.schedule.velocity(latents, noise, timesteps)
    with torch.autocast(noise.device.type, torch.bfloat16, enabled=noise.device.type == "cuda"):
        condition = ImageCondition(
            embeddings=prior.embed(to_images(pairs.condition)), latents=pairs.condition_latents.float()
        )
        prediction = prior.unet(**prior.unet_inputs(noisy, timesteps, condition, pose, keep)).sample
    return F.mse_loss(prediction.float(), target, reduction="none").mean((1, 2, 3))


class Training:
    """One training run; `run` does it all."""

    def __init__(self, config: TrainConfig) -> None:
        self.config, self.started = config, time.monotonic()
        self.rank, self.count, self.device = parallel.start()
        torch.manual_seed(config.seed)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
        config.out.mkdir(parents=True, exist_ok=True)
        self.prior = Zero123Prior.load(config.resume) if config.resume else build_prior(config.architecture)
        if config.autoencoder:
            self.prior.vae = AutoencoderKL.from_pretrained(config.autoencoder)
        self.prior.requires_grad_(True).to(self.device)
        if self.device.type == "cuda":
            self.prior.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        parallel.synchronise(self.prior)
        self.generator = torch.Generator().manual_seed(config.seed * 1000 + self.rank)
        self.noise = torch.Generator(self.device).manual_seed(config.seed * 1000 + self.rank)
        torch.manual_seed(config.seed * 1000 + self.rank + 1)

    def report(self, row: dict[str, float]) -> None:
        """One line of `training.jsonl`, from the first process."""
        if self.rank == 0:
            logger.info("%s", {name: round(value, 5) for name, value in row.items()})
            with (self.config.out / "training.jsonl").open("a") as lines:
                lines.write(json.dumps(row) + "\n")

    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.started

    def run(self) -> Path:
        """Trains, and returns the prior's folder."""
        config, size = self.config, self.config.architecture.size
        held_out = next(random_views(min(64, config.num_objects), size, 1, self.device, first=HELD_OUT, num_objects=1))
        if not (config.resume or config.autoencoder):
            batch = max(2, config.batch_size // 2)
            views = random_views(
                batch,
                size,
                seed=self.rank,
                device=self.device,
                first=self.rank << 26,
                num_objects=config.num_objects + config.reserve,
            )
            train_autoencoder(
                self.prior.vae, views, config.autoencoder_seconds, self.report, config.max_steps, config.compile
            )
            parallel.synchronise(self.prior)
        self.prior.vae.requires_grad_(False)
        each, inside = reconstruction_psnr(self.prior.vae, held_out)
        self.report({"autoencoder_psnr": float(each.median()), "autoencoder_object_psnr": inside})
        self._train()
        parallel.stop()
        return config.out / "prior"

    @torch.no_grad()
    def encode(self, views: Tensor) -> Tensor:
        """Latents of views, not scaled."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
            latents: Tensor = self.prior.vae.encode(to_images(views)).latent_dist.mode()
        return latents.to(torch.bfloat16 if self.device.type == "cuda" else torch.float32)

    def _pool(self, num_objects: int, first: int, seed: int, reserve: int = 0) -> ViewPool:
        size = self.config.architecture.size
        return ViewPool(
            num_objects=num_objects, views=8, size=size, encode=self.encode, device=self.device, seed=seed, first=first,
            stride=self.count, reserve=reserve,
        )  # fmt: skip

    def _train(self) -> None:
        config = self.config
        begun = self.elapsed()
        pool = self._pool(
            config.num_objects, config.first_object + self.rank, config.seed * 1000 + self.rank, config.reserve
        )
        test = self._pool(min(128, config.num_objects), HELD_OUT, 0).sample(config.batch_size)
        trained = nn.ModuleList([self.prior.unet, self.prior.image_encoder, self.prior.camera_projection])
        parameters = [each for each in trained.parameters() if each.requires_grad]
        average = Average(trained)
        fused = self.device.type == "cuda"
        optimizer = torch.optim.AdamW(parameters, lr=0.0, betas=(0.9, 0.99), weight_decay=0.01, fused=fused)
        if config.compile:
            self.prior.unet.compile()
            self.prior.image_encoder.compile()
        progress, step, saved, losses = 0.0, 0, self.elapsed(), torch.zeros((), device=self.device)
        while progress < 1.0:
            losses += self._step(pool, parameters, optimizer, self._rate(step, progress))
            average.update(trained)
            step += 1
            if step % config.refresh_every == 0:
                pool.refresh(min(config.refresh_objects, config.num_objects))
            if step % 20 == 0 or step in (1, config.max_steps):
                share = (self.elapsed() - begun) / max(config.seconds - begun, 1e-3)
                progress = parallel.agree(max(share, step / config.max_steps), self.device)
            if step % 200 == 0 or step == 1 or progress >= 1.0:
                rate = self._rate(step, progress)
                self.report(
                    {
                        "step": step,
                        "seconds": self.elapsed(),
                        "loss": float(losses) / (step % 200 or (200 if step >= 200 else step)),
                        "rate": rate,
                    }
                )
                losses.zero_()
            if self.rank == 0 and (progress >= 1.0 or self.elapsed() - saved > 100):
                saved = self.elapsed()
                average.swap(trained)
                self._validate(test, step)
                self._save()
                average.swap(trained)

    def _rate(self, step: int, progress: float) -> float:
        start = self.config.decay_from
        fall = max(0.0, (progress - start) / (1 - start))
        return self.config.learning_rate * min(1.0, (step + 1) / 300) * (0.505 + 0.495 * math.cos(math.pi * fall))

    def _step(
        self, pool: ViewPool, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, rate: float
    ) -> Tensor:
        """One step; returns its loss without waiting for it."""
        count = self.config.batch_size
        pairs = pool.sample(count)
        timesteps = draw_timesteps(count, self.generator)
        noise = torch.randn(pairs.latents.shape, device=self.device, generator=self.noise)
        keep = (torch.rand(count, generator=self.generator) >= self.config.drop).float().to(self.device)
        loss = denoising_loss(self.prior, pairs, timesteps, noise, pose_of(self.prior, pairs, self.device), keep).mean()
        loss.backward()
        parallel.average_gradients(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def _validate(self, pairs: Pairs, step: int) -> None:
        """Held-out loss at t = 800 with the right pose, and with the azimuth 15 degrees off.

        Gradients stay on: without them a compiled model would be compiled again.
        """
        count = len(pairs.elevation)
        noise = torch.randn(pairs.latents.shape, generator=torch.Generator().manual_seed(0)).to(self.device)
        timesteps, keep = torch.full((count,), 800), torch.ones(count, device=self.device)
        pose = pose_of(self.prior, pairs, self.device)
        wrong = pose.clone()
        turn = math.radians(15.0)
        wrong[:, 1] = pose[:, 1] * math.cos(turn) + pose[:, 2] * math.sin(turn)
        wrong[:, 2] = pose[:, 2] * math.cos(turn) - pose[:, 1] * math.sin(turn)
        right_loss = float(denoising_loss(self.prior, pairs, timesteps, noise, pose, keep).mean().detach())
        wrong_loss = float(denoising_loss(self.prior, pairs, timesteps, noise, wrong, keep).mean().detach())
        self.report({"step": step, "held_out_loss": right_loss, "held_out_loss_15_degrees_off": wrong_loss})

    def _save(self) -> None:
        """The averaged weights in half precision."""
        half = build_prior(self.config.architecture)
        half.load_state_dict({name.replace("_orig_mod.", ""): value for name, value in self.prior.state_dict().items()})
        half.vae.register_to_config(scaling_factor=self.prior.vae.config.scaling_factor)
        half.half().save(self.config.out / "prior")


def train(config: TrainConfig) -> Path:
    """Trains a prior and returns its folder."""
    return Training(config).run()


def main(arguments: list[str] | None = None) -> Any:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return train(tyro.cli(TrainConfig, args=arguments, description=__doc__))


if __name__ == "__main__":
    main()
