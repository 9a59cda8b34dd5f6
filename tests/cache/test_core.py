"""The method on one page: its size, what it loads, and the page that explains it."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src/hash3d"
CORE = (
    "cache/grid.py", "cache/table.py", "cache/blend.py", "cache/feature_cache.py", "unet/partial_unet.py",
    "unet/hook.py",
)  # fmt: skip
PAGE = (ROOT / "docs/how_it_works.md").read_text()
WITHOUT = ("triton", "rembg", "flip_evaluator", "DeepCache", "beartype", "matplotlib", "hypothesis")
"""The packages of the extras, and the compiler of kernels that only some platforms have."""
FIRST_CALLS = (
    f"""
import sys
sys.modules.update(dict.fromkeys({WITHOUT}))
"""
    + """
import torch
from diffusers import UNet2DConditionModel
from hash3d import apply_hash3d
blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2, "block_out_channels": (4, 4)}
unet = UNet2DConditionModel(sample_size=8, norm_num_groups=2, cross_attention_dim=4, attention_head_dim=2, **blocks)
cache = apply_hash3d(unet)
print(*sorted(name for name in sys.modules if name.startswith("hash3d")))
for _ in range(2):
    with torch.no_grad(), cache.view(elevation=0, azimuth=0, radius=1):
        unet(torch.zeros(1, 4, 8, 8), 5, encoder_hidden_states=torch.zeros(1, 1, 4))
    print(*sorted(name for name in sys.modules if name.startswith("hash3d")))
print(cache.statistics.shallow)
from hash3d.systems import SYSTEMS
import hash3d.training.run, hash3d.training.outputs, hash3d.rendering.splat, hash3d.rendering.volume
print(all(system.steps("mini") for system in SYSTEMS))
"""
)


def test_the_core_reads_in_one_sitting():
    assert sum(len((SOURCES / name).read_text().splitlines()) for name in CORE) <= 400


def test_the_two_verbs_load_twelve_modules_a_call_one_more_and_a_hit_another():
    """Also without what is optional, as the rest of the package works."""
    run = subprocess.run([sys.executable, "-c", FIRST_CALLS], capture_output=True, text=True, check=True)
    applied, miss, hit, shallow, rest = run.stdout.splitlines()
    assert len(applied.split()) <= 12
    assert set(miss.split()) - set(applied.split()) == {"hash3d.unet.watch"}
    assert set(hit.split()) - set(miss.split()) == {"hash3d.cache.blend"}
    assert (shallow, rest) == ("1", "True")


def test_the_page_quotes_the_sources():
    """Each excerpt but the first, which is a user's, stands in a core file with its indentation."""
    usage, *excerpts = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert "apply_hash3d" in usage
    assert len(excerpts) == 9
    sources = [(SOURCES / name).read_text() for name in CORE]
    for excerpt in excerpts:
        assert any(excerpt in source for source in sources), excerpt


def test_the_page_names_files_that_exist():
    for name in re.findall(r"`((?:cache|unet|fast)/[\w/]*(?:\.py)?)`", PAGE):
        assert (SOURCES / name).exists(), name
