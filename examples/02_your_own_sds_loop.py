"""Hash3D in a score-distillation loop of your own: two lines.

Optimises a panorama of latents by SDS; at each step a camera sees a window of it. The U-Net is a small random one of
Stable Diffusion's class, so the result means nothing: put your own U-Net and your own renderer in their places. Rows of
the U-Net call are [conditional views, unconditional views].

Usage:
    python examples/02_your_own_sds_loop.py
    python examples/02_your_own_sds_loop.py --steps 300
"""

import time

import torch
import tyro
from diffusers import DDPMScheduler, UNet2DConditionModel

from hash3d import Hash3DConfig, apply_hash3d


def main(steps: int = 60, guidance_scale: float = 7.5) -> None:
    """Optimise for some steps and print what was reused."""
    torch.manual_seed(0)
    channels = (32, 64, 128, 128)
    unet = UNet2DConditionModel(block_out_channels=channels, cross_attention_dim=64, norm_num_groups=8).eval()
    schedule = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
    embeddings = torch.randn(2, 77, 64)  # Your prompt's, then the empty prompt's.
    panorama = torch.zeros(1, 4, 16, 64, requires_grad=True)
    optimizer = torch.optim.Adam([panorama], lr=0.01)

    cache = apply_hash3d(unet, Hash3DConfig())  # <-- The first line.

    start = time.perf_counter()
    for _ in range(steps):
        azimuth = float(torch.rand(()) * 360)
        timestep = torch.randint(400, 600, (1,))
        latents = panorama.roll(-int(azimuth / 360 * 64), dims=-1)[..., :16]
        noise = torch.randn_like(latents)
        noisy = schedule.add_noise(latents.detach(), noise, timestep)
        with torch.no_grad(), cache.view(elevation=0.0, azimuth=azimuth, radius=1.5):  # <-- The second line.
            pair = unet(torch.cat([noisy, noisy]), timestep, encoder_hidden_states=embeddings).sample
        conditional, unconditional = pair.chunk(2)
        noise_pred = unconditional + guidance_scale * (conditional - unconditional)
        gradient = (1 - schedule.alphas_cumprod[timestep]) * (noise_pred - noise)
        optimizer.zero_grad()
        latents.backward(gradient)
        optimizer.step()
    seconds = time.perf_counter() - start
    print(f"{steps} steps in {seconds:.2f} s, {cache.statistics.reuse_share:.0%} of the calls reused a feature")


if __name__ == "__main__":
    tyro.cli(main)
