"""Loading and guidance-pair times of the embedded priors on this machine's CPU.

Usage:
    python -m research.benchmarks.embedded --write docs/benchmarks/embedded.md
"""

import argparse
import datetime
import statistics
import time
from pathlib import Path

import torch

from hash3d.cache import Hash3DConfig
from hash3d.diffusion.loading import EMBEDDED
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.diffusion.zero123 import Zero123Prior
from hash3d.model_files import embedded_folder
from hash3d.unet.partial_unet import PartialUNet
from research.timing import seconds_of


@torch.no_grad()
def prior_speeds(name: str, repeats: int) -> tuple[float, float, float]:
    """Seconds to load an embedded prior, milliseconds of a full guidance pair, and of one with reuse as by default."""
    started = time.perf_counter()
    prior = (StableDiffusionPrior if name == "mini-sd" else Zero123Prior).load(embedded_folder(name))
    loading = time.perf_counter() - started
    prior.to(memory_format=torch.channels_last)
    size = prior.unet.config.sample_size
    noisy, timesteps = torch.randn(1, 4, size, size), torch.tensor([500])
    if isinstance(prior, StableDiffusionPrior):
        inputs = prior.make_guided_inputs(noisy, timesteps, prior.embed(["a red mug"]), prior.embed([""]))
    else:
        image = torch.zeros(1, 3, prior.image_size, prior.image_size)
        inputs = prior.make_guided_inputs(noisy, timesteps, prior.condition(image), torch.zeros(1, 4))
    partial = PartialUNet(prior.unet, Hash3DConfig.cut)
    _, feature = partial.full_pass(**inputs)
    calls = (lambda: prior.unet(**inputs), lambda: partial.shallow_pass(feature, **inputs))
    full, shallow = (statistics.median(seconds_of(call, prior.device, repeats, warm_up=1)) for call in calls)
    return loading, 1000.0 * full, 1000.0 * shallow


def main() -> None:
    """Measure each prior, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--repeats", type=int, default=21)
    parser.add_argument("--commit", default="unknown")
    options = parser.parse_args()
    lines = [
        "# The embedded priors on a CPU",
        "",
        f"`python -m research.benchmarks.embedded --repeats {options.repeats}`, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, commit {options.commit}, {datetime.date.today()}. Medians. A guidance pair is one "
        "view with and without its condition; with reuse only the last up layer runs, as in a default cache.",
        "",
        "| prior | MB | loads in | guidance pair | with reuse |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for name in EMBEDDED:
        size = sum(file.stat().st_size for file in embedded_folder(name).rglob("*") if file.is_file())
        loading, full, shallow = prior_speeds(name, options.repeats)
        lines.append(f"| `{name}` | {size / 1e6:.1f} | {loading:.1f} s | {full:.0f} ms | {shallow:.0f} ms |")
    print("\n".join(lines))
    if options.write:
        options.write.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
