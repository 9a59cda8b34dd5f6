"""How long a view of a field takes at full size, by the PyTorch definition and by Triton's kernels.

Usage:
    python -m research.benchmarks.rays --write docs/benchmarks/rays.md
    python -m research.benchmarks.rays --tiny --device cpu

The fields of `dreamfusion`, `zero123_nerf` and `latent_nerf` (sines and cosines, deep networks) at full scale: at their
start, with every level of the hash grid on and the occupancy grid updated. A step draws one view at the largest size of
the schedule with the normals that the losses want (`latent_nerf`: at its first size, without), takes the losses of the
field (fixed random weights stand for the guidance), and goes backward. Medians
after a warm-up, by CUDA events; on a CPU by the clock. The other numbers: samples that the sieves left, the peak memory
of a step, and how far the parameters' gradients are from the definition's, relative to their norm.
"""

import argparse
import gc
import json
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.cli.host import require_device
from hash3d.kernels import FieldBackend
from hash3d.recipes.stage import Stage
from hash3d.rendering.volume import VolumeRender, VolumeRendererConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import Nerf, NerfConfig
from hash3d.representations.occupancy import OccupancyGrid
from hash3d.scenes.field import FieldScene
from hash3d.scenes.losses import (
    normal_image,
    normal_smoothness_3d_loss,
    normal_smoothness_loss,
    orientation_loss,
    sparsity_loss,
)
from hash3d.systems import dreamfusion, latent_nerf, zero123_nerf
from hash3d.table.objects import describe_machine
from hash3d.table.report import markdown_table
from hash3d.training.run import versions
from research.measured import write_measured

from .command import describe_run

TITLE = "Rays through a field"
QUESTION = "How long does a view of a field take at full size, and how much memory, by PyTorch and by Triton's kernels?"
PARTS = ("render", "losses", "backward", "occupancy")
HEADS = ("system", "backend", "pixels", "samples", *(f"{part} ms" for part in PARTS), "peak GiB", "gradient's error")
STAGES = {
    "dreamfusion": dreamfusion.supplement,
    "zero123_nerf": zero123_nerf.supplement,
    "latent_nerf": latent_nerf.supplement,
}


class Watch:
    """Milliseconds of the parts of steps."""

    def __init__(self, device: str, parts: Sequence[str] = PARTS) -> None:
        self.cuda = device == "cuda"
        self._marks: dict[str, list[tuple[Any, Any]]] = {part: [] for part in parts}

    def _now(self) -> Any:
        if not self.cuda:
            return 1000.0 * time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Count what happens inside."""
        begin = self._now()
        yield
        self._marks[part].append((begin, self._now()))

    def medians(self, warm_up: int) -> dict[str, float]:
        """Of each part, without its first few times."""
        if self.cuda:
            torch.cuda.synchronize()
        spans = {part: marks[warm_up:] for part, marks in self._marks.items()}
        return {
            part: statistics.median(a.elapsed_time(b) if self.cuda else b - a for a, b in marks)
            for part, marks in spans.items()
        }


def with_backend(stage: Stage, backend: FieldBackend, tiny: bool) -> tuple[NerfConfig, VolumeRendererConfig]:
    """The field and the renderer of a stage; `tiny`: a small grid and few samples."""
    config, renderer = stage.representation, stage.renderer
    assert isinstance(config, NerfConfig)
    assert isinstance(renderer, VolumeRendererConfig)
    encoding = replace(config.encoding, backend=backend)
    if tiny:
        if isinstance(encoding, HashGridConfig):
            encoding = replace(encoding, levels=4, log2_entries=12, finest_resolution=64, start_level=None)
        renderer = replace(renderer, samples_per_ray=64)
    return replace(config, encoding=encoding), replace(renderer, backend=backend)


def field_losses(field: Nerf, image: VolumeRender, weights: dict[str, float], generator: torch.Generator) -> Tensor:
    """The losses of the field that are on, and fixed random weights on the colours."""
    cotangents = torch.randn(image.color.shape, generator=torch.Generator().manual_seed(1)).to(image.color)
    total = (image.color * cotangents).mean() + sparsity_loss(image.alpha)
    samples = image.samples
    if "orientation" in weights:
        total = total + weights["orientation"] * orientation_loss(samples, image.alpha)
    if "normal_smoothness" in weights and image.normal is not None:
        picture = normal_image(image.normal, image.alpha)
        total = total + weights["normal_smoothness"] * normal_smoothness_loss(picture)
    if "normal_smoothness_3d" in weights and samples.normals is not None:
        shifts = torch.randn(samples.points.shape, generator=generator, device=generator.device)
        beside = field.normals(samples.points + 0.01 * shifts)
        total = total + weights["normal_smoothness_3d"] * normal_smoothness_3d_loss(samples.normals, beside)
    return total


@dataclass(frozen=True, kw_only=True)
class Case:
    """A view of a field at its start: all that a renderer takes, and the stage that it is from."""

    stage: Stage
    field: Nerf
    renderer: VolumeRendererConfig
    occupancy: OccupancyGrid
    cameras: Cameras
    background: Tensor

    def update_occupancy(self) -> None:
        """Evaluate a point of every cell, the same each time."""
        length = self.renderer.step_length(self.field.radius)
        self.occupancy.update(self.field, length, torch.Generator().manual_seed(1))


def prepare(system: str, backend: FieldBackend, options: argparse.Namespace) -> Case:
    """The field with every level on and its occupancy grid updated, and the view."""
    stage, device = STAGES[system](), options.device
    config, renderer = with_backend(stage, backend, options.tiny)
    field = config.build(torch.Generator().manual_seed(0)).to(device)
    field.set_step(stage.steps)
    assert stage.occupancy is not None
    occupancy = stage.occupancy.build(field.radius).to(device)
    size = 16 if options.tiny else int(stage.size(0 if system == "latent_nerf" else stage.steps))
    middle = (stage.cameras.radius, stage.cameras.fov_y)
    cameras = Cameras.orbit(elevation=15.0, azimuth=40.0, radius=middle[0], fov_y=middle[1], size=size)
    background = torch.ones(1, field.channels, device=device)
    case = Case(
        stage=stage, field=field, renderer=renderer, occupancy=occupancy, cameras=cameras, background=background
    )
    case.update_occupancy()
    return case


def measure(system: str, backend: FieldBackend, options: argparse.Namespace) -> tuple[dict[str, Any], list[Tensor]]:
    """A row of numbers, and the parameters' gradients of the last step on the CPU."""
    case, device = prepare(system, backend, options), options.device
    field, renderer, occupancy, weights = case.field, case.renderer.build(), case.occupancy, case.stage.losses.active(0)
    view, normals = (case.cameras, case.background), bool(FieldScene.own_losses & weights.keys())
    watch = Watch(device)
    forget_peak(device)
    for _ in range(options.warm_up + options.repeats):
        generator = torch.Generator().manual_seed(2)
        field.zero_grad(set_to_none=True)
        with watch("render"):
            image = renderer(field, *view, occupancy=occupancy, generator=generator, normals=normals)
        with watch("losses"):
            loss = field_losses(field, image, weights, torch.Generator(device).manual_seed(3))
        with watch("backward"):
            loss.backward()
        samples = len(image.samples.weights)
        del image, loss
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else 0
    for _ in range(options.warm_up + options.repeats):
        with watch("occupancy"):
            case.update_occupancy()
    row = {"system": system, "backend": backend, "size": case.cameras.width, "samples": samples, "peak": peak}
    gradients = [each.grad.cpu() for each in field.parameters() if each.grad is not None]
    return row | watch.medians(options.warm_up), gradients


def forget_peak(device: str) -> None:
    """Let the peak memory of the allocator start anew."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def relative_error(found: list[Tensor], expected: list[Tensor]) -> float:
    """Of gradients, all parameters together."""
    wanted = torch.cat([each.double().flatten() for each in expected])
    return float((torch.cat([each.double().flatten() for each in found]) - wanted).norm() / wanted.norm())


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    size = f"{row['size']}x{row['size']}"
    times = [f"{row[part]:.2f}" for part in PARTS]
    memory = f"{row['peak'] / 2**30:.2f}" if row["peak"] else "-"
    return [row["system"], row["backend"], size, f"{row['samples']:,}", *times, memory, f"{row['error']:.1e}"]


def parse(about: str | None = __doc__) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=5)
    parser.add_argument("--tiny", action="store_true", help="a small grid and a small view, for a CPU")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--commit", default="unknown")
    parser.add_argument("--write", type=Path, metavar="PAGE.md")
    return parser.parse_args()


def print_page(options: argparse.Namespace, table: list[str]) -> list[str]:
    """Print and return the lines of a page: what was run where, and the table."""
    account = describe_machine(Path("."), options.device, commit=options.commit).account()
    lines = [
        f"{describe_run(account)}, {json.dumps(versions())}. "
        f"Medians of {options.repeats} after {options.warm_up} that do not count.",
        "",
        *table,
    ]
    print("\n".join(lines))
    return lines


def main() -> None:
    """Print the table, and write the page if asked."""
    options = parse()
    require_device(options.device)
    backends: list[FieldBackend] = ["torch", "triton"] if options.device == "cuda" else ["torch"]
    rows = []
    for system in STAGES:
        expected: list[Tensor] | None = None
        for backend in backends:
            row, gradients = measure(system, backend, options)
            expected = expected or gradients
            rows.append(row | {"error": relative_error(gradients, expected)})
            print(" | ".join(cells(rows[-1])), flush=True)
    lines = print_page(options, markdown_table(HEADS, [cells(row) for row in rows], words=2))
    if options.write:
        write_measured(options.write.with_suffix(""), TITLE, QUESTION, lines)


if __name__ == "__main__":
    main()
