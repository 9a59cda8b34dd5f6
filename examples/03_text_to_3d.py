"""A sentence to 3D Gaussians on a CPU, with the embedded text prior.

A whole score-distillation loop in one function: render a random view, encode it, add noise, predict the noise for the
prompt with the view's words, and backpropagate the SDS loss to the Gaussians. Writes a PLY file and an image of eight
views.

Usage:
    python examples/03_text_to_3d.py
    python examples/03_text_to_3d.py --prompt "a yellow teddy bear" --out teddy --steps 600
"""

import time
from pathlib import Path

import torch
import tyro

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.cameras import CameraSamplerConfig
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.export.points import write_ply
from hash3d.export.turntable import orbit, save_image, tile
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance, StableDiffusionGuidanceConfig
from hash3d.model_files import embedded_folder
from hash3d.recipes.view_order import ViewOrderConfig
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.scenes.losses import opaque_loss, scale_loss
from hash3d.schedules import ramp

WHITE = torch.ones(1, 3)


def main(
    prompt: str = "a red mug with a blue handle",
    out: Path = Path("text_to_3d"),
    steps: int = 400,
    guidance_scale: float = 10.0,
    points: int = 4000,
    seed: int = 0,
) -> None:
    """Optimise Gaussians until they look like the prompt from every side."""
    generator = torch.Generator().manual_seed(seed)
    prior = StableDiffusionPrior.load(embedded_folder("mini-sd")).to(memory_format=torch.channels_last)
    cache = apply_hash3d(prior.unet, Hash3DConfig())
    config = StableDiffusionGuidanceConfig(guidance_scale=guidance_scale, max_timestep=ramp((0, 0.98), (steps, 0.5)))
    guidance = StableDiffusionGuidance(config, prior, prompt, generator=generator, cache=cache)
    gaussians = GaussiansConfig(
        num_points=points, radius=0.4, means_lr=(5e-3, 2e-4), sh0_lr=(0.03, 0.003), lr_steps=steps
    ).build(generator)
    optimizer = gaussians.build_optimizer()
    sampler = CameraSamplerConfig(elevation=(-10.0, 75.0), radius=1.5, fov_y=49.1)
    views = ViewOrderConfig(visits_per_cell=4, active_cells=8)  # Returns to a few cells, so that features serve again.
    order = views.build(sampler)
    start = time.perf_counter()
    for step in range(steps):
        gaussians.update_learning_rate(optimizer, step)
        camera, timestep = order.next(prior.image_size, *config.timestep_range(step, 1000), generator)
        view = render_gaussians(gaussians, camera, WHITE)
        loss = 0.1 * guidance(view.color, camera, timestep).loss + opaque_loss(view.alpha)
        loss = loss + scale_loss(gaussians.gaussians().scales, 0.05)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if (step + 1) % 50 == 0:
            print(f"step {step + 1} of {steps}", flush=True)
    seconds = time.perf_counter() - start
    cameras = orbit(8, elevation=20.0, radius=1.5, fov_y=49.1, size=192)
    with torch.no_grad():
        views = [render_gaussians(gaussians, cameras[index], WHITE).color[0] for index in range(len(cameras))]
    out.mkdir(parents=True, exist_ok=True)
    save_image(tile(views, columns=4), out / "preview.png")
    write_ply(out / "model.ply", gaussians)
    print(f"{steps} steps in {seconds:.0f} s, {cache.statistics.reuse_share:.0%} of the calls reused a feature")
    print(f"Wrote {out / 'preview.png'} and {out / 'model.ply'}")


if __name__ == "__main__":
    tyro.cli(main)
