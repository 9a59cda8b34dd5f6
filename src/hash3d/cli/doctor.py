"""`hash3d doctor`."""

import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hash3d.cache import Hash3DConfig
from hash3d.diffusion.loading import EMBEDDED, embedded_folder
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.rendering.splat import pick_backend
from hash3d.unet.partial_unet import PartialUNet

from .parsing import parse_options

PACKAGES = ("hash3d", "torch", "diffusers", "transformers", "numba", "av")
EXTRAS = {"gsplat": ("cuda", "fast splats on a GPU"), "rembg": ("rembg", "any background")}
"""What the extra that brings a package adds."""


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can run, and how fast."""


def main(arguments: list[str]) -> int:
    """Print the findings. Returns the exit code; a prior that does not load is an error of its own."""
    parse_options(Doctor, "doctor", arguments)
    on_gpu = torch.cuda.is_available()
    rows = {
        "python": platform.python_version(),
        "cpu threads": str(torch.get_num_threads()),
        "gpu": torch.cuda.get_device_name() if on_gpu else "none; everything runs on the CPU",
        "splatting backend": pick_backend("auto", torch.device("cuda" if on_gpu else "cpu")),
        **{name: version(name) for name in PACKAGES},
    }
    for name, (extra, gain) in EXTRAS.items():
        rows[name] = version(name) if find_spec(name) else f"not installed: pip install 'hash3d[{extra}]' for {gain}"
    for name in EMBEDDED:
        loading, full, shallow = prior_speeds(name)
        rows[name] = f"loads in {loading:.1f} s; guidance pair {full:.0f} ms full, {shallow:.0f} ms with reuse"
    table = Table("part", "state", box=None)
    for name, state in rows.items():
        table.add_row(name, escape(state))
    Console(highlight=False).print(table)
    return 0


@torch.no_grad()
def prior_speeds(name: str, repeats: int = 5) -> tuple[float, float, float]:
    """Seconds to load an embedded prior, milliseconds of a full guidance pair, and of one with reuse as by default."""
    started = time.perf_counter()
    prior = load_embedded(name)
    loading = time.perf_counter() - started
    prior.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = prior.unet.config.sample_size
    noisy, timesteps = torch.randn(1, 4, size, size), torch.tensor([500])
    if isinstance(prior, StableDiffusionPrior):
        inputs = prior.guided_inputs(noisy, timesteps, prior.embed(["a red mug"]), prior.embed([""]))
    else:
        image = torch.zeros(1, 3, prior.image_size, prior.image_size)
        inputs = prior.guided_inputs(noisy, timesteps, prior.condition(image), torch.zeros(1, 4))
    partial = PartialUNet(prior.unet, Hash3DConfig.cut)
    _, feature = partial.full_pass(**inputs)
    full = milliseconds(lambda: prior.unet(**inputs), repeats)
    return loading, full, milliseconds(lambda: partial.shallow_pass(feature, **inputs), repeats)


def load_embedded(name: str) -> Zero123Prior | StableDiffusionPrior:
    """Load an embedded prior of either kind."""
    kind = StableDiffusionPrior if name == "mini-sd" else Zero123Prior
    return kind.load(embedded_folder(name))


def milliseconds(function: Callable[[], object], repeats: int) -> float:
    """Median time of a call, after one that is not counted."""
    times = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return 1000.0 * statistics.median(times[1:])
