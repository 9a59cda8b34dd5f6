"""`hash3d doctor`."""

import platform
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hash3d.cache import Hash3DConfig
from hash3d.cameras import Cameras
from hash3d.diffusion.loading import EMBEDDED, embedded_folder
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.rendering.splat import pick_backend, render_gaussians
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.unet.partial_unet import PartialUNet

from .parsing import parse_options


@dataclass(frozen=True)
class Doctor:
    """Say what this machine can run, and how fast."""


def main(arguments: list[str]) -> int:
    """Print the findings. Returns the exit code; a prior that does not load is an error of its own."""
    parse_options(Doctor, "doctor", arguments)
    table = Table("part", "state", box=None)
    for name, state in [*machine(), *packages(), *speeds()]:
        table.add_row(name, escape(state))
    Console(highlight=False).print(table)
    return 0


def machine() -> list[tuple[str, str]]:
    """Processor and accelerator."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none; everything runs on the CPU"
    return [
        ("python", platform.python_version()),
        ("cpu threads", str(torch.get_num_threads())),
        ("gpu", gpu),
        ("splatting backend", pick_backend("auto", torch.device("cuda" if torch.cuda.is_available() else "cpu"))),
    ]


def packages() -> list[tuple[str, str]]:
    """Versions, and what each missing extra would add."""
    rows = []
    for name in ("hash3d", "torch", "diffusers", "transformers", "numba", "av"):
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            rows.append((name, "missing: pip install hash3d"))
    for module, extra, gain in (("gsplat", "cuda", "fast splats on a GPU"), ("rembg", "rembg", "any background")):
        state = version(module) if find_spec(module) else f"not installed: pip install 'hash3d[{extra}]' for {gain}"
        rows.append((module, state))
    return rows


def speeds() -> list[tuple[str, str]]:
    """Milliseconds of the parts of a step with the embedded priors on the CPU."""
    rows = []
    for name in EMBEDDED:
        loading, full, shallow = prior_speeds(name)
        rows.append((name, f"loads in {loading:.1f} s; guidance pair {full:.0f} ms full, {shallow:.0f} ms with reuse"))
    scene = GaussiansConfig(num_points=5000).build(torch.Generator().manual_seed(0))
    camera = Cameras.orbit(elevation=0.0, azimuth=0.0, radius=1.5, fov_y=49.1, size=128)
    with torch.no_grad():
        render = milliseconds(lambda: render_gaussians(scene, camera, torch.ones(1, 3)))
    return [*rows, ("5,000 Gaussians at 128x128", f"{render:.0f} ms")]


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
    shallow = milliseconds(lambda: partial.shallow_pass(feature, **inputs), repeats)
    return loading, full, shallow


def load_embedded(name: str) -> Zero123Prior | StableDiffusionPrior:
    """An embedded prior of either kind."""
    kind = StableDiffusionPrior if name == "mini-sd" else Zero123Prior
    return kind.load(embedded_folder(name))


def milliseconds(function: object, repeats: int = 5) -> float:
    """Median time of a call, after one that is not counted."""
    assert callable(function)
    function()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        times.append(time.perf_counter() - started)
    return 1000.0 * sorted(times)[len(times) // 2]
