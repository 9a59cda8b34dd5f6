"""A Zero123's U-Net in LDM's layout, as published and as threestudio has it, beside diffusers' of the same weights.

Usage: python -m research.benchmarks.ldm [--write docs/benchmarks/ldm.md] [--repeats 20]

Full size, random weights, half precision, both guidance branches of 1 and of 4 views, in PyTorch as it is ("eager") and
in CUDA graphs ("graph"). A block is four calls of views in a cell not seen before: off, all run in full; on, three
reuse. A block is timed until the GPU is done. The LDM model is the tests', written from the published layout;
diffusers' is converted from it by `hash3d convert`'s function. "A hit" is compared with a pass without the cache, of
the same inputs on the same engine; the prediction with LDM's in eager PyTorch.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from datetime import date
from itertools import count, product
from typing import Any

import torch
from torch import Tensor, nn

from hash3d import Hash3DConfig
from hash3d.diffusion.convert import UNET, convert_unet
from hash3d.table.objects import name_hardware
from hash3d.table.report import markdown_table
from hash3d.unet import accelerate_unet, apply_hash3d, remove_hash3d
from hash3d.unet.model import prediction_of
from research.measured import parse_options, write_measured
from research.timing import seconds_of
from tests.tiny_ldm import UNetModel

PUBLISHED: dict[str, Any] = {"model_channels": 320, "channel_mult": (1, 2, 4, 4), "num_heads": 8, "context_dim": 768}
"""threestudio 28d9d80, load/zero123/sd-objaverse-finetune-c_concat-256.yaml."""
TINY: dict[str, Any] = {"channel_mult": (1, 2), "num_heads": 8, "context_dim": 768}
NAMES = {"LDM": ("x", "timesteps", "context"), "diffusers": ("sample", "timestep", "encoder_hidden_states")}
VISITS, TIMESTEP = 4, 500


def load_unets(options: argparse.Namespace, dtype: torch.dtype) -> dict[str, nn.Module]:
    """The U-Net in both layouts, with the same weights."""
    torch.manual_seed(0)
    with torch.device(options.device):
        unet = UNetModel(in_channels=8, **(TINY if options.tiny else PUBLISHED)).to(dtype).eval().requires_grad_(False)
    weights = {UNET + name: value for name, value in unet.state_dict().items()}
    return {"LDM": unet, "diffusers": convert_unet(weights, 32).eval().requires_grad_(False)}


def make_inputs(views: int, size: int, device: str, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Noisy latents beside the reference image's, timesteps, one token of image and pose: with them and without."""
    generator = torch.Generator().manual_seed(0)
    noisy, image = torch.randn(2, views, 4, size, size, generator=generator)
    token = torch.randn(views, 1, 768, generator=generator)
    sample = torch.cat([torch.cat([noisy] * 2), torch.cat([image, torch.zeros_like(image)])], dim=1)
    context = torch.cat([token, torch.zeros_like(token)])
    return sample.to(device, dtype), torch.full((2 * views,), TIMESTEP, device=device), context.to(device, dtype)


def compare(found: Tensor, expected: Tensor) -> str:
    """Whether two predictions are the same bits, or how far apart."""
    if torch.equal(found, expected):
        return "same bits"
    return f"{float((found.float() - expected.float()).norm() / expected.float().norm()):.0e}"


@torch.no_grad()
def measure(unet: nn.Module, inputs: dict[str, Any], engine: Any, repeats: int) -> tuple[list[float], Tensor, Tensor]:
    """Milliseconds of calls off, on and of hits; the prediction of a pass in full, and of a hit."""
    device, views = next(iter(inputs.values())).device, len(next(iter(inputs.values()))) // 2
    azimuths = [360.0 / views * view + 10.0 for view in range(views)]
    accelerate_unet(unet, engine=engine)
    full = prediction_of(unet(**inputs)).clone()
    times = [blocks(lambda: unet(**inputs), device, repeats)]
    remove_hash3d(unet)
    cache, calls = apply_hash3d(unet, Hash3DConfig(max_age=None), engine=engine), count()

    def call(cell: object) -> Tensor:
        with cache.view(elevation=10.0, azimuth=azimuths, radius=1.5, timestep=TIMESTEP, scope=cell):
            return prediction_of(unet(**inputs))

    times.append(blocks(lambda: call(next(calls) // VISITS), device, repeats))
    assert cache.statistics.reuse_share == 1.0 - 1.0 / VISITS
    times.append(blocks(lambda: call(0), device, repeats))
    hit = call(0)
    remove_hash3d(unet)
    return times, full, hit


def blocks(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median over blocks of the milliseconds of a call."""

    def block() -> None:
        for _ in range(VISITS):
            call()

    return 1e3 * statistics.median(seconds_of(block, device, repeats, warm_up=3)) / VISITS


def main() -> None:
    """Measure, print, write."""
    options, begin = parse_options(__doc__, 20, "blocks of four calls of each kind"), time.perf_counter()
    torch.set_num_threads(1)
    dtype = torch.float32 if options.device == "cpu" else torch.float16
    unets, expected, rows = load_unets(options, dtype), dict[int, Tensor](), list[list[str]]()
    engines = ("eager",) if options.device == "cpu" else ("eager", "graph")
    for engine, (layout, unet), views in product(engines, unets.items(), (1, 4)):
        inputs = dict(
            zip(NAMES[layout], make_inputs(views, 8 if options.tiny else 32, options.device, dtype), strict=True)
        )
        (off, on, hit), full, reused = measure(unet, inputs, engine, options.repeats)
        agreement = [compare(reused, full), compare(full, expected.setdefault(views, full))]
        rows.append([layout, engine, str(views), *(f"{ms:.2f}" for ms in (off, on, off / on, hit)), *agreement])
        print(*rows[-1], f"{time.perf_counter() - begin:.0f} s", flush=True)
    heads = (
        "layout", "engine", "views", "off, ms a call", "on", "times as fast", "a hit, ms", "a hit, to a pass in full",
        "prediction, to LDM's",
    )  # fmt: skip
    made = (
        f"`python -m research.benchmarks.ldm {' '.join(sys.argv[1:])}`, commit {options.commit}, "
        f"{name_hardware(options.device)}, torch {torch.__version__}, {date.today()}. "
        f"Medians of {options.repeats} blocks of {VISITS} calls."
    )
    lines = [made, "", *markdown_table(heads, rows, words=2)]
    print("\n".join(lines))
    if options.write:
        write_measured(options.write.with_suffix(""), "A U-Net of LDM", (__doc__ or "").split("\n\n")[2], lines)


if __name__ == "__main__":
    main()
