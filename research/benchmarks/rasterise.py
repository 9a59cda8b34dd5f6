"""How long the CPU takes to draw Gaussians, forward and with gradients.

Usage: python -m research.benchmarks.rasterise [--write docs/benchmarks/rasterise.md] [--repeats 15]

Two scenes, both in a ball of radius 0.5 seen from 1.5 at 49.1 degrees: "start", as `GaussiansConfig` begins (round,
opacity 0.1), and "trained", long ellipsoids of mostly high opacity. Two clocks, because the machine may be shared: the
processor time on one thread (median), which other work hardly touches, and the wall time with all threads (least).
The first call compiles the kernels and is not timed. Single precision, one view.
"""

import argparse
import datetime
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numba
import torch

from hash3d.cameras import Cameras
from hash3d.rendering.splat import Backend, SplatRendererConfig, render_gaussians
from hash3d.representations.gaussians import GaussiansConfig, GaussianTensors

CASES = [(kind, count, size) for kind in ("start", "trained") for size in (128, 256) for count in (1000, 5000, 20000)]
DEFINITION_LIMIT = 1000 * 128 * 128
"""Gaussians times pixels beyond which the definition is not timed: it takes seconds."""


def build_scene(kind: str, count: int) -> GaussianTensors:
    """Gaussians at the start of a run, or as after one."""
    generator = torch.Generator().manual_seed(0)
    start = GaussiansConfig(num_points=count).build(generator).gaussians()
    scales, opacities, quats = start.scales.detach(), start.opacities.detach(), start.quats.detach()
    if kind == "trained":
        opacities = torch.sigmoid(1.0 + 2.0 * torch.randn(count, generator=generator))
        scales = scales * torch.exp(0.5 * torch.randn(count, 3, generator=generator))
        quats = torch.randn(count, 4, generator=generator)
    colors = torch.rand(count, 3, generator=generator)
    tensors = [tensor.detach().clone().requires_grad_() for tensor in (start.means, quats, scales, opacities, colors)]
    return GaussianTensors(
        means=tensors[0], quats=tensors[1], scales=tensors[2], opacities=tensors[3], colors=tensors[4]
    )


def milliseconds(action: Callable[[], object], clock: Callable[[], float], repeats: int) -> list[float]:
    """Times of `repeats` calls on `clock`, after one call that does not count."""
    action()
    times = []
    for _ in range(repeats):
        begin = clock()
        action()
        times.append(1000.0 * (clock() - begin))
    return times


def measure(kind: str, count: int, size: int, backend: Backend, repeats: int) -> list[float]:
    """Milliseconds: processor time of forward, of forward and backward, on one thread; wall time of both on all."""
    scene, background = build_scene(kind, count), torch.ones(1, 3)
    cameras = Cameras.orbit(elevation=10.0, azimuth=20.0, radius=1.5, fov_y=49.1, size=size)
    config = SplatRendererConfig(backend=backend)
    weights = torch.randn(1, size, size, 3, generator=torch.Generator().manual_seed(1))

    def forward() -> torch.Tensor:
        render = render_gaussians(scene, cameras, background, config=config)
        return (render.color * weights).sum() + render.alpha.sum()

    def both() -> None:
        forward().backward()

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    alone = [statistics.median(milliseconds(action, time.process_time, repeats)) for action in (forward, both)]
    torch.set_num_threads(threads)
    return [*alone, min(milliseconds(both, time.perf_counter, repeats))]


def table(repeats: int) -> str:
    """A markdown table, a case a row, in milliseconds."""
    lines = [
        "| scene | Gaussians | image | backend | forward, one thread | and backward, one thread | and backward, wall |",
        "|---|---:|---:|---|---:|---:|---:|",
    ]
    for kind, count, size in CASES:
        for backend in ("torch", "numba"):
            if backend == "torch" and count * size * size > DEFINITION_LIMIT:
                continue
            found = measure(kind, count, size, backend, 2 if backend == "torch" else repeats)
            name = "definition" if backend == "torch" else backend
            cells = " | ".join(f"{value:.1f}" for value in found)
            lines.append(f"| {kind} | {count:,} | {size}x{size} | {name} | {cells} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table, and write the page if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    found = table(arguments.repeats)
    print(found)
    if arguments.write:
        commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
        arguments.write.write_text(
            "# Drawing Gaussians on a CPU\n\n"
            f"- Command: `python -m research.benchmarks.rasterise --write {arguments.write}`\n"
            f"- Commit: {commit.stdout.strip()}; date: {datetime.date.today()}\n"
            f"- Hardware: {torch.get_num_threads()} CPU cores ({platform.machine()}), shared with other work\n"
            f"- Versions: torch {torch.__version__}, numba {numba.__version__}, Python {platform.python_version()}\n"
            f"- One thread: processor time, median of {arguments.repeats} calls after one warm-up. Wall: all cores, "
            f"least of {arguments.repeats}, on a busy machine. The definition: 2 calls, small cases only.\n"
            "- Milliseconds, float32, one view.\n\n"
            f"{found}\n\n"
            "The first call of each kernel compiles it (about 20 seconds in all) and keeps the result on disk.\n"
        )


if __name__ == "__main__":
    main()
