"""Attach Hash3D to the U-Net of a StableDiffusionPipeline.

Calls the U-Net as a score-distillation loop does, for cameras on three rounds of an orbit, first without a cache and
then inside `cache.view`. Neighbouring views share a deep feature, so many calls run only the shallow layers. No code of
diffusers is changed, and `remove_hash3d` leaves the U-Net as it was.

Usage:
    python examples/01_stable_diffusion_unet.py --random
    python examples/01_stable_diffusion_unet.py --model stable-diffusion-v1-5/stable-diffusion-v1-5
"""

import time
from contextlib import nullcontext

import torch
import tyro
from diffusers import UNet2DConditionModel

from hash3d import FeatureCache, Hash3DConfig, apply_hash3d, remove_hash3d

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def random_unet() -> tuple[UNet2DConditionModel, torch.Tensor]:
    """A U-Net with the layers of Stable Diffusion's, narrow and with random weights, and embeddings for it."""
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(32, 64, 128, 128),
        cross_attention_dim=64,
        attention_head_dim=4,
        norm_num_groups=8,
    )
    return unet.eval().to(DEVICE), torch.randn(2, 77, 64, device=DEVICE)


def pipeline_unet(model: str) -> tuple[UNet2DConditionModel, torch.Tensor]:
    """The U-Net of a folder or hub name, and the embeddings [2, 77, D] of a prompt and of no prompt."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_pretrained(model, safety_checker=None).to(DEVICE)
    embeddings = pipeline.encode_prompt("a photo of a corgi", DEVICE, 1, do_classifier_free_guidance=True)
    return pipeline.unet, torch.cat(embeddings)


@torch.no_grad()
def seconds_of_three_rounds(
    unet: UNet2DConditionModel, embeddings: torch.Tensor, views: int, cache: FeatureCache | None
) -> float:
    """Time of `3 * views` calls: each round the timestep falls by 10."""
    size = unet.config.sample_size
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    for call in range(3 * views):
        timestep, azimuth = 550 - 10 * (call // views), 360.0 * (call % views) / views
        latents = torch.randn(1, 4, size, size, generator=generator).to(embeddings)
        view = cache.view(elevation=15.0, azimuth=azimuth, radius=1.5, timestep=timestep) if cache else nullcontext()
        with view:
            unet(torch.cat([latents, latents]), timestep, encoder_hidden_states=embeddings)
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def main(model: str | None = None, random: bool = False, views: int = 24) -> None:
    """Time a U-Net with and without a cache.

    Args:
        model: folder or hub name of a StableDiffusionPipeline.
        random: take a small random U-Net of the same class instead.
        views: cameras on the orbit.
    """
    if (model is None) != random:
        raise SystemExit("Expected either --model FOLDER_OR_NAME or --random.")
    unet, embeddings = random_unet() if random else pipeline_unet(model)
    seconds_of_three_rounds(unet, embeddings, 1, None)  # Warm-up.
    without = seconds_of_three_rounds(unet, embeddings, views, None)
    cache = apply_hash3d(unet, Hash3DConfig(reuse_probability=0.8))
    with_cache = seconds_of_three_rounds(unet, embeddings, views, cache)
    remove_hash3d(unet)
    print(f"without a cache: {without:.2f} s")
    print(f"with Hash3D:     {with_cache:.2f} s, {cache.statistics.reuse_share:.0%} of the calls reused a feature")


if __name__ == "__main__":
    tyro.cli(main)
