"""The quality part of `encoder.py`: each encoding's gradient against the exact one, with trained autoencoders."""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny
from random_models import Prior
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.diffusion.eight_bits import convolution, residual_layers, rounded
from hash3d.diffusion.encoding import Encoding
from hash3d.diffusion.fused_layers import fixed_norms
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.stand_ins import replaced
from hash3d.guidance.latent_guidance import LatentGuidance
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123Guidance, Zero123GuidanceConfig
from hash3d.pictures import frame_picture, load_picture
from hash3d.priors.autoencoder import to_images
from hash3d.priors.pool import FOV_Y, RADIUS, random_views
from hash3d.training.guide import load_stable_diffusion, load_zero123

Row = dict[str, Any]
EMBEDDED = ("mini-zero123", "mini-sd")
TIMESTEPS = (200, 500, 800)
SMALLER = (2, 4)
"""Renders of a half and a quarter of the prior's size, which the guidance enlarges before it encodes them."""
WIDTH, VIEWS, BATCH, CROP, LEARNING_RATE = 32, 96, 8, 64, 2e-3
"""Of the tiny autoencoder's layers, and of its training on parts of some views."""


def skips_alone(blocks: Any) -> AbstractContextManager[None]:
    """Residual blocks whose value is their own, and whose gradient is that of their shortcut."""

    def forward(block: Any, own: Callable[..., Tensor], x: Tensor, temb: Tensor | None = None) -> Tensor:
        skip = x if block.conv_shortcut is None else block.conv_shortcut(x)
        return own(x, temb).detach() + (skip - skip.detach())

    return replaced([(block, "forward", partial(forward, block, block.forward)) for block in blocks])


def eight_bits_there_too(encoder: Any) -> AbstractContextManager[None]:
    """The residual blocks of all levels but the last on rounded pictures and weights, there and back."""

    def forward(layer: Any, x: Tensor) -> Tensor:
        return convolution(x + (rounded(x) - x).detach(), rounded(layer.weight)) + layer.bias[:, None, None]

    layers = residual_layers(encoder.down_blocks[:-1])
    return replaced([(layer, "forward", partial(forward, layer)) for layer in layers])


Contestant = tuple[Encoding, Callable[[Any], AbstractContextManager[None]]]
CONTESTANTS: dict[str, Contestant] = {
    "exact": ("exact", nullcontext),
    "fixed_norms": ("fixed_norms", nullcontext),
    "eight_bits": ("eight_bits", nullcontext),
    "half": ("half", nullcontext),
    "half_gradient": ("half_gradient", nullcontext),
    "tiny, distilled here": ("tiny", nullcontext),
    "tried: all norms fixed": ("exact", fixed_norms),
    "tried: norms of all levels but the last fixed": ("exact", lambda encoder: fixed_norms(encoder.down_blocks[:-1])),
    "tried: eight bits on the way there too": ("fixed_norms", eight_bits_there_too),
    "tried: first level, its skips alone": ("exact", lambda encoder: skips_alone(encoder.down_blocks[0].resnets)),
    "tried: middle, its skips alone": ("exact", lambda encoder: skips_alone(encoder.mid_block.resnets)),
}


def distil(prior: Prior, seconds: float, folder: Path) -> None:
    """Give the prior a tiny autoencoder whose encoder has learned its latents on parts of procedural views."""
    torch.manual_seed(0)
    sizes = {"encoder_block_out_channels": (WIDTH,) * 3, "num_encoder_blocks": (1, 3, 3)}
    tiny = AutoencoderTiny(**sizes, decoder_block_out_channels=(8,), num_decoder_blocks=(1,))
    encoder = tiny.encoder.to(prior.device, memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(encoder.parameters())
    grounds = 0.5 if isinstance(prior, StableDiffusionPrior) else 0.0
    size, device = prior.image_size, prior.device
    views = to_images(next(random_views(VIEWS, size, 0, device, num_objects=VIEWS, colored_grounds=grounds)))
    started = time.perf_counter()
    while (share := (time.perf_counter() - started) / seconds) < 1.0:
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1.0 - share)
        top, left, flipped = (*torch.randint(size - CROP + 1, (2,)).tolist(), bool(torch.rand(()) < 0.5))
        images = views[torch.randint(VIEWS, (BATCH,)), :, top : top + CROP, left : left + CROP]
        images = images.flip(3) if flipped else images
        with torch.no_grad():
            latents = prior.encode(images)
        optimizer.zero_grad()
        F.mse_loss(encoder(images), latents.float()).backward()
        optimizer.step()
    tiny.save_pretrained(folder)
    prior.load_tiny(str(folder))


def guidance_of(prior: Prior, encoding: Encoding, picture: Tensor, name: str) -> LatentGuidance[Any]:
    """Asks the prior for what a picture shows: by its name, or by the picture itself as the reference view."""
    generator = torch.Generator()
    if isinstance(prior, StableDiffusionPrior):
        config = StableDiffusionGuidanceConfig(guidance_scale=10.0, sample_latents=False, encoding=encoding)
        return StableDiffusionGuidance(config, prior, f"a {name.replace('_', ' ')}", generator=generator)
    by_picture = Zero123GuidanceConfig(guidance_scale=2.0, sample_latents=False, encoding=encoding)
    reference = picture[0].permute(2, 0, 1) * 2.0 - 1.0
    return Zero123Guidance(
        by_picture, prior, reference, reference_elevation=5.0, reference_radius=RADIUS, generator=generator
    )


def gradients(guidance: LatentGuidance[Any], picture: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The gradients on a picture and on smaller ones, by what is asked: of white noise on the latents, and of SDS."""
    size = picture.shape[1]
    for shrink in (1, *SMALLER):
        render = picture.permute(0, 3, 1, 2)
        if shrink > 1:
            render = F.interpolate(render, (size // shrink, size // shrink), mode="bilinear", antialias=True)
        image = render.permute(0, 2, 3, 1).clone().requires_grad_()
        camera = Cameras.orbit(elevation=5.0, azimuth=30.0, radius=RADIUS, fov_y=FOV_Y, size=size)
        behind = "" if shrink == 1 else f", render 1/{shrink}"
        latents = guidance.encode(image)
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)).to(latents)
        yield "white noise" + behind, torch.autograd.grad(latents, image, noise)[0]
        for timestep in TIMESTEPS if shrink == 1 else TIMESTEPS[1:2]:
            guidance.generator.manual_seed(timestep)
            loss = guidance(image, camera, torch.tensor([timestep])).loss
            yield f"SDS at {timestep}" + behind, torch.autograd.grad(loss, image)[0]


def measured(prior: Prior, contestant: Contestant, picture: Tensor, name: str) -> tuple[Tensor, dict[str, Tensor]]:
    """A contestant's latents of a picture, and its gradients."""
    encoding, context = contestant
    guidance = guidance_of(prior, encoding, picture, name)
    with context(prior.vae.encoder):
        with torch.no_grad():
            latents = guidance.encode(picture)
        return latents, dict(gradients(guidance, picture))


def pictures(folder: Path, size: int) -> dict[str, Tensor]:
    """The pictures of a folder on white, [1, S, S, 3], by name."""
    files = sorted(folder.glob("*.png"))
    if not files:
        raise ValueError(f"Expected PNG pictures in {folder}, but there are none. Pass --pictures another folder.")
    return {file.stem: frame_picture(load_picture(file), size).color_on_white[None] for file in files}


def quality_rows(options: argparse.Namespace) -> list[Row]:
    """For each embedded prior and contestant: the latents' error, and each gradient's cosine with the exact one."""
    rows, device = [], torch.device(options.device)
    for prior_name in options.embedded:
        prior = (load_stable_diffusion if prior_name == "mini-sd" else load_zero123)(prior_name, device)
        chosen = dict(CONTESTANTS)
        with TemporaryDirectory() as folder:
            if options.distil_seconds > 0:
                distil(prior, options.distil_seconds, Path(folder))
            else:
                del chosen["tiny, distilled here"]
        shown = pictures(options.pictures, prior.image_size)
        found: dict[str, list[Row]] = {name: [] for name in chosen}
        for name, picture in shown.items():
            exact_latents, exact = measured(prior, chosen["exact"], picture.to(device), name)
            for each, contestant in chosen.items():
                latents, own = measured(prior, contestant, picture.to(device), name)
                error = (latents - exact_latents).norm() / exact_latents.norm()
                cosines = {
                    kind: F.cosine_similarity(own[kind].flatten(), wanted.flatten(), dim=0).item()
                    for kind, wanted in exact.items()
                }
                found[each].append({"error": error.item(), "cosines": cosines})
        for each, of_pictures in found.items():
            kinds = {kind: [one["cosines"][kind] for one in of_pictures] for kind in of_pictures[0]["cosines"]}
            error = sum(one["error"] for one in of_pictures) / len(of_pictures)
            row = {"part": "quality", "prior": prior_name, "encoding": each, "pictures": len(shown), "error": error}
            cosine = {kind: [sum(values) / len(values), min(values)] for kind, values in kinds.items()}
            rows.append({**row, "distil_seconds": options.distil_seconds, "cosine": cosine})
            print(prior_name, each, f"{error:.3f}", cosine, flush=True)
    return rows
