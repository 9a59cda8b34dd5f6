"""Attach Hash3D to the U-Net of an LDM Zero123, as threestudio and the authors' own code have it.

The U-Net is a `UNetModel` of LDM: known by its parts, from whatever package it comes. Here it is loaded by
threestudio's code from its own checkpoint; without one a small one with random weights stands for it. The cameras come
back to cells by `Revisits`, each with the distribution of the loop's own sampler.

Usage:
    python examples/04_ldm_zero123.py --random
    python examples/04_ldm_zero123.py --threestudio path/to/threestudio --checkpoint path/to/stable_zero123.ckpt
"""

import sys
import time
from pathlib import Path

import torch
import tyro

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.recipes.revisits import Revisits

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


def random_unet() -> torch.nn.Module:
    """A small U-Net in LDM's layout with random weights: the tests' own."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.tiny_ldm import tiny_ldm

    return tiny_ldm(in_channels=8, context_dim=768)


def load_unet(threestudio: Path, checkpoint: Path) -> torch.nn.Module:
    """The U-Net of a checkpoint, by threestudio's code."""
    sys.path.insert(0, str(threestudio))
    from omegaconf import OmegaConf
    from threestudio.models.guidance.zero123_guidance import load_model_from_config

    config = OmegaConf.load(threestudio / "load/zero123/sd-objaverse-finetune-c_concat-256.yaml")
    return load_model_from_config(config, checkpoint, DEVICE).model.diffusion_model.requires_grad_(False)


def sample(count: int, generator: torch.Generator) -> dict[str, torch.Tensor]:
    """Independent cameras and timesteps."""
    u = torch.rand(3, count, generator=generator)
    return {"elevation": 90 * u[0] - 10, "azimuth": 360 * u[1] - 180, "timestep": (20 + 960 * u[2]).long()}


def main(
    random: bool = False, threestudio: Path | None = None, checkpoint: Path | None = None, views: int = 32
) -> None:
    """Call the U-Net for views in an order that comes back, and print how many calls reused a feature."""
    if not random and (threestudio is None or checkpoint is None):
        raise SystemExit("Pass --random, or --threestudio and --checkpoint.")
    unet = (random_unet() if random else load_unet(threestudio, checkpoint)).to(DEVICE)
    cache = apply_hash3d(unet, Hash3DConfig())
    generator = torch.Generator().manual_seed(0)
    revisits = Revisits(sample, visits_per_cell=4, active_cells=4)
    context, image = torch.randn(2, 1, 768, device=DEVICE), torch.randn(1, 4, 32, 32, device=DEVICE)
    start = time.perf_counter()
    for _ in range(views):
        view = revisits.next(1, generator)
        noisy = torch.randn(1, 4, 32, 32, device=DEVICE)
        pair = torch.cat([torch.cat([noisy] * 2), torch.cat([image, torch.zeros_like(image)])], dim=1)
        timesteps = view["timestep"].repeat(2).to(DEVICE)
        with torch.no_grad(), cache.view(**view, radius=1.5, scope="photo.png"):
            unet(pair, timesteps, context=context)
    print(
        f"{views} views in {time.perf_counter() - start:.2f} s; {cache.statistics.reuse_share:.0%} of the calls reused"
    )


if __name__ == "__main__":
    tyro.cli(main)
