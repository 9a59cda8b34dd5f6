"""What is optional may be missing: the package is imported and works on a CPU without it."""

import subprocess
import sys

WITHOUT = ("gsplat", "triton", "rembg", "flip_evaluator", "DeepCache", "beartype", "matplotlib", "hypothesis")
"""The packages of the extras, and the compiler of kernels that only some platforms have."""
USE = """
import torch
from hash3d import Hash3DConfig, apply_hash3d
from hash3d.systems import SYSTEMS
from diffusers import UNet2DConditionModel

for system in SYSTEMS:
    assert system.steps("mini")
import hash3d.training.run, hash3d.training.outputs, hash3d.rendering.splat, hash3d.rendering.volume
unet = UNet2DConditionModel(
    block_out_channels=(32, 32), layers_per_block=1, cross_attention_dim=8, attention_head_dim=4, norm_num_groups=8,
    down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"), up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
)
cache = apply_hash3d(unet, Hash3DConfig())
latents, context = torch.zeros(1, 4, 8, 8), torch.zeros(1, 7, 8)
for _ in range(2):
    with torch.no_grad(), cache.view(elevation=0, azimuth=0, radius=1, timestep=500, scope="a"):
        assert unet(latents, 500, encoder_hidden_states=context).sample.isfinite().all()
assert cache.statistics.shallow == 1
"""


def test_the_package_works_without_what_is_optional():
    code = f"import sys; sys.modules.update(dict.fromkeys({WITHOUT}))\n{USE}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
