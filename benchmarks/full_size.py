"""Full size on a GPU: zero123_gs with a Stable-Zero123 of the real layout and size, random weights, cache off and on.

Usage: python benchmarks/full_size.py --folder /tmp/stable-zero123 --steps 100 --out docs/benchmarks/full_size.md

Random weights make no picture, but every tensor has its real shape, so that time and memory are the real ones.
"""

import argparse
import datetime
import gc
import json
import shutil
import tempfile
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from random_priors import write_prior

from hash3d.cache import PRESETS
from hash3d.systems import zero123_gs
from hash3d.training.run import Run, versions

CASES = {"off": None, "on (default)": PRESETS["default"], "DeepCache, interval 4": PRESETS["deepcache"]}
PARTS = ("render", "encode", "unet", "backward", "other")


def draw_picture(path: Path) -> None:
    """A red disc on a transparent ground."""
    picture = Image.new("RGBA", (512, 512), (255, 255, 255, 0))
    ImageDraw.Draw(picture).ellipse((100, 100, 412, 412), fill=(200, 40, 40, 255))
    picture.save(path)


def measure(prior: Path, picture: Path, cache, steps: int, device: str) -> dict:
    """The summary of one run."""
    recipe = zero123_gs.recipe(image=picture, prior=str(prior), cache=cache, steps=steps)
    folder = Path(tempfile.mkdtemp())
    gc.collect()  # The hook and its U-Net refer to each other, so the run before is freed here.
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    run = Run(recipe, folder / "run", device=device)
    started = run.total_seconds
    run.train()
    summary = run.summary([])
    summary["seconds"]["loading"] = started
    shutil.rmtree(folder)
    return summary


def row(name: str, summary: dict) -> str:
    """One line of the table."""
    steps, seconds, unet = summary["steps"], summary["seconds"], summary["unet"]
    parts = " | ".join(f"{1000 * seconds[part] / steps:.1f}" for part in PARTS[:-1])
    step = 1000 * sum(seconds[part] for part in PARTS[:-1]) / steps
    memory = summary["peak_memory_bytes"] / 2**30
    return f"| {name} | {unet['reuse_share']:.0%} | {parts} | {step:.1f} | {memory:.2f} |"


def main() -> None:
    """Measure every case, print the table, write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "stable-zero123")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks/full_size.md"))
    options = parser.parse_args()
    picture = Path(tempfile.mkdtemp()) / "disc.png"
    draw_picture(picture)
    write_prior("stable-zero123", options.folder, device=options.device)
    measure(options.folder, picture, None, 5, options.device)  # Warm-up: kernels are built and chosen.
    rows = []
    for name, cache in CASES.items():
        rows.append(row(name, measure(options.folder, picture, cache, options.steps, options.device)))
        print(rows[-1], flush=True)
    hardware = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    command = f"python benchmarks/full_size.py --steps {options.steps}"
    page = [
        "# zero123_gs at full size",
        "",
        f"`{command}`, commit {options.commit}, {hardware}, {datetime.date.today()}, {json.dumps(versions())}.",
        "",
        "Stable-Zero123's layout and size with random weights in half precision, 4,096 Gaussians, one 256x256 view and",
        "one reference view a step, eager PyTorch. Milliseconds a step by CUDA events (the U-Net's and the encoder's",
        "launches included); peak memory of the allocator. The three runs differ in the cache alone.",
        "",
        "| cache | passes reused | render | encode | U-Net | backward | step | peak GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(page) + "\n")


if __name__ == "__main__":
    main()
