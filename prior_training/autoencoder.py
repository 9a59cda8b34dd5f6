"""The small autoencoder of the embedded priors: 128x128x3 pictures, 32x32x4 latents, diffusers' `AutoencoderKL`."""

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from jaxtyping import Float, UInt8
from torch import Tensor

from .parallel import agree, average_gradients

LEARNING_RATE = 2e-3
KL_WEIGHT = 1e-8
"""Of the sum over a picture's latents. Small: the posterior's sample is nearly its mode."""
OBJECT_WEIGHT = 3.0
"""An object's pixel counts this much more than a pixel of the background."""


def build_autoencoder(channels: tuple[int, ...] = (16, 48, 80), sample_size: int = 128) -> Any:
    """An untrained autoencoder; each level but the first halves the picture."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * len(channels),
        up_block_types=("UpDecoderBlock2D",) * len(channels),
        block_out_channels=channels,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=sample_size,
        scaling_factor=1.0,
    )


def to_images(views: UInt8[Tensor, "B H W 4"]) -> Float[Tensor, "B 3 H W"]:
    """Rendered bytes to pictures in [-1, 1]."""
    return views[..., :3].permute(0, 3, 1, 2).float() / 127.5 - 1


def autoencoder_loss(autoencoder: Any, views: UInt8[Tensor, "B H W 4"]) -> Float[Tensor, ""]:
    """L1, squared and gradient differences, weighted towards the object, and a small KL term."""
    images = to_images(views)
    weight = 1 + (OBJECT_WEIGHT - 1) * (views[..., 3] > 0).float()[:, None]
    weight = weight / weight.mean()
    posterior = autoencoder.encode(images).latent_dist
    difference = autoencoder.decode(posterior.sample()).sample.float() - images
    across, down = difference.diff(dim=-1), difference.diff(dim=-2)
    kl = posterior.kl().float().mean()
    pixels = (weight * (difference.abs() + 2 * difference.square())).mean()
    edges = (weight[..., 1:] * across.abs()).mean() + (weight[..., 1:, :] * down.abs()).mean()
    total: Tensor = pixels + edges + KL_WEIGHT * kl
    return total


def train_autoencoder(
    autoencoder: Any,
    batches: Iterator[UInt8[Tensor, "B H W 4"]],
    seconds: float,
    report: Callable[[dict[str, float]], None],
    max_steps: int = 1_000_000,
    compiled: bool = False,
) -> None:
    """Adam with warm-up and cosine decay over `seconds` (or `max_steps`); then sets `scaling_factor` to 1 / std."""
    if compiled:
        autoencoder.encoder.compile()
        autoencoder.decoder.compile()
    optimizer = torch.optim.AdamW(autoencoder.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    device = next(autoencoder.parameters()).device
    started, step, progress = time.monotonic(), 0, 0.0
    while progress < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * progress))
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = autoencoder_loss(autoencoder, next(batches))
        loss.backward()
        average_gradients(autoencoder.parameters())
        torch.nn.utils.clip_grad_norm_(autoencoder.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 20 == 0 or step >= max_steps:
            elapsed = time.monotonic() - started
            progress = agree(max(elapsed / seconds, step / max_steps), device)
            if step % 100 == 0 or step >= max_steps:
                report({"autoencoder_step": step, "seconds": elapsed, "autoencoder_loss": loss.item()})
    with torch.compiler.set_stance("force_eager"):
        set_scaling_factor(autoencoder, next(batches))


@torch.no_grad()
def set_scaling_factor(autoencoder: Any, views: UInt8[Tensor, "B H W 4"]) -> None:
    """Scaled latents have a standard deviation of 1."""
    latents = autoencoder.encode(to_images(views)).latent_dist.mode()
    autoencoder.register_to_config(scaling_factor=round(1.0 / float(latents.std()), 5))


@torch.no_grad()
def reconstruction_psnr(autoencoder: Any, views: UInt8[Tensor, "B H W 4"]) -> tuple[Float[Tensor, " B"], float]:
    """PSNR of each picture, and over all pixels of objects, in dB."""
    images = to_images(views)
    decoded = autoencoder.decode(autoencoder.encode(images).latent_dist.mode()).sample.clamp(-1, 1)
    squared = F.mse_loss(decoded, images, reduction="none") / 4
    inside = (views[..., 3] > 0)[:, None].expand_as(squared)
    return -10 * squared.mean((1, 2, 3)).log10(), float(-10 * squared[inside].mean().log10())
