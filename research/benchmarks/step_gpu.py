"""How long a GPU takes to draw Gaussians and to take a step of them: Triton's rasteriser beside gsplat.

Usage: python -m research.benchmarks.step_gpu [--write step.md] [--seconds 95] [--no-sweep]

Prints as it goes, most wanted first: equality with the definition and with gsplat; one CUDA graph of render, loss,
backward and Adam beside the same step in eager PyTorch; forward and backward of both rasterisers over scenes and sizes;
last, until the seconds are over, other shapes of the two kernels.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.rendering import _triton_splat as rasteriser
from hash3d.rendering._torch_splat import render_torch
from hash3d.rendering.base import Render
from hash3d.rendering.splat import SplatJob, SplatRendererConfig
from hash3d.representations.gaussians import Gaussians, GaussiansConfig, GaussianTensors
from research.benchmarks.rasterise import build_scene

NAMES = ("means", "quats", "scales", "opacities", "colors")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LINES: list[str] = []
BEGIN = time.perf_counter()


def say(line: str) -> None:
    """Print a line, and keep it for the page."""
    print(f"[{time.perf_counter() - BEGIN:5.1f}] {line}", flush=True)
    LINES.append(line)


def make_job(splats: GaussianTensors, size: int, views: int) -> SplatJob:
    """Views around the scene as `zero123_gs` has them."""
    azimuth = [20.0 + 360.0 * view / views for view in range(views)]
    cameras = Cameras.orbit(elevation=10.0, azimuth=azimuth, radius=3.8, fov_y=20.0, size=size)
    like = splats.means
    probe = torch.zeros(views, len(splats), 2, dtype=like.dtype, device=DEVICE, requires_grad=True)
    matrices = cameras.viewmats.to(like), cameras.K.to(like), torch.full((views, 3), 0.4).to(like)
    return SplatJob(splats, *matrices, probe, (size, size), SplatRendererConfig())


def make_scene(kind: str, count: int, dtype: torch.dtype = torch.float32) -> GaussianTensors:
    """A scene of `research.benchmarks.rasterise`, on the device."""
    scene = build_scene(kind, count)
    moved = {name: getattr(scene, name).detach().to(DEVICE, dtype).requires_grad_() for name in NAMES}
    return GaussianTensors(**moved)


def render_gsplat(job: SplatJob) -> Render:
    """By gsplat's classic mode; a hook brings the probe's gradient."""
    from gsplat import rasterization

    splats, config = job.splats, job.config
    image, alpha, info = rasterization(
        splats.means, splats.quats, splats.scales, splats.opacities, splats.colors, job.viewmats, job.intrinsics,
        *job.size, near_plane=config.near, eps2d=config.eps2d, packed=False, render_mode="RGB+D",
        rasterize_mode="classic", backgrounds=job.background,
    )  # fmt: skip
    if info["means2d"].requires_grad:
        info["means2d"].register_hook(lambda gradient: setattr(job.probe, "grad", gradient.clone()))
    return Render(color=image[..., :3], alpha=alpha, depth=image[..., 3:])


def draw(job: SplatJob, backend: str) -> Tensor:
    """Colour, alpha and depth."""
    if backend == "gsplat":
        render = render_gsplat(job)
    else:
        render = render_torch(job) if backend == "torch" else rasteriser.render_triton(job)[0]
    return torch.cat([render.color, render.alpha, render.depth], dim=-1)


def image_and_gradients(job: SplatJob, backend: str) -> tuple[Tensor, list[Tensor]]:
    """The image, and the gradients of the Gaussians and the probe for fixed cotangents."""
    leaves = [getattr(job.splats, name) for name in NAMES] + [job.probe]
    for leaf in leaves:
        leaf.grad = None
    image = draw(job, backend)
    cotangents = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image)
    (image * cotangents).sum().backward()
    return image.detach(), [leaf.grad for leaf in leaves]


def compare(kind: str, count: int, size: int, views: int, backend: str, dtype: torch.dtype) -> None:
    """Say how far Triton is from another backend."""
    expected, wanted = image_and_gradients(make_job(make_scene(kind, count, dtype), size, views), backend)
    image, gradients = image_and_gradients(make_job(make_scene(kind, count), size, views), "triton")
    error = (image.double() - expected.double()).abs().flatten()
    errors = [
        float((a.double() - b.double()).norm() / b.double().norm().clamp(min=1e-6))
        for a, b in zip(gradients, wanted, strict=True)
    ]
    far = float((error > 1e-4).float().mean())
    say(
        f"{kind} {count} at {size} x {views} against {backend} {str(dtype)[6:]}: largest {float(error.max()):.1e}, "
        f"over 1e-4 {100 * far:.3f} %; gradients " + " ".join(f"{each:.1e}" for each in errors)
    )


def milliseconds(action: Callable[[], object], repeats: int = 15) -> tuple[float, float]:
    """Median on the device, and on the host's clock with one wait at the end of each call."""
    for _ in range(3):
        action()
    device, host = [], []
    for _ in range(repeats):
        torch.cuda.synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        now = time.perf_counter()
        begin.record()
        action()
        end.record()
        torch.cuda.synchronize()
        host.append(1000.0 * (time.perf_counter() - now))
        device.append(begin.elapsed_time(end))
    return statistics.median(device), statistics.median(host)


def record(action: Callable[[], object]) -> torch.cuda.CUDAGraph:
    """A CUDA graph of an action that has no wait in it."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            action()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        action()
    return graph


def both_passes(job: SplatJob, backend: str) -> Callable[[], object]:
    """Forward and backward from a loss of the colours."""
    leaves = [getattr(job.splats, name) for name in NAMES]
    cotangents = torch.randn(len(job.background), job.size[1], job.size[0], 5, device=DEVICE)

    def action() -> object:
        return torch.autograd.grad(draw(job, backend), leaves, cotangents)

    return action


def time_both(kind: str, count: int, size: int, views: int, backends: list[str]) -> None:
    """Say what forward and backward take, and Triton's as one graph."""
    job = make_job(make_scene(kind, count), size, views)
    entries = int(rasteriser.render_triton(job)[1])
    cells = []
    for backend in backends:
        device, host = milliseconds(both_passes(job, backend))
        cells.append(f"{backend} {device:.3f} (host {host:.3f})")
    replay = milliseconds(record(both_passes(job, "triton")).replay)[0]
    say(f"{kind} {count} at {size} x {views}, {entries} entries: " + ", ".join(cells) + f", graph {replay:.3f} ms")


class Step:
    """Render, mean squared error to a target, backward, and Adam with learning rates on the device."""

    def __init__(self, count: int, size: int, views: int, backend: str) -> None:
        self.model: Any = GaussiansConfig(num_points=count).build(torch.Generator().manual_seed(0)).to(DEVICE)
        self.backend = backend
        rates = [{**group, "lr": torch.tensor(float(group["lr"]), device=DEVICE)} for group in groups(self.model)]
        self.optimizer = torch.optim.Adam(rates, eps=1e-15, fused=True, capturable=True)
        with torch.no_grad():  # No graph of this stream may outlive the line: a capture could not join it.
            self.job = make_job(self.model.gaussians(), size, views)
        self.target = torch.rand(views, size, size, 3, generator=torch.Generator().manual_seed(2)).to(DEVICE)
        self.loss = torch.zeros((), device=DEVICE)

    def __call__(self) -> None:
        """One step; the loss stays on the device."""
        image = draw(self.job._replace(splats=self.model.gaussians()), self.backend)[..., :3]
        loss = (image - self.target).square().mean()
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()
        self.loss.copy_(loss.detach())


def groups(model: Gaussians) -> list[Any]:
    """The parameter groups of a model."""
    return [dict(group) for group in model.parameter_groups()]


def time_step(count: int, size: int, views: int, backends: list[str]) -> None:
    """Say what a step takes in eager PyTorch and as one graph, and how far apart their losses are after 30 steps."""
    cells, losses = [], []
    for backend in backends:
        step = Step(count, size, views, backend)
        device, host = milliseconds(step, 27)
        cells.append(f"{backend} {device:.3f} (host {host:.3f})")
        losses.append(float(step.loss))
    step = Step(count, size, views, "triton")
    graph = record(step)  # Three steps beside the recording, which takes none.
    for _ in range(27):
        graph.replay()
    losses.append(float(step.loss))
    replay, host = milliseconds(graph.replay, 30)
    say(
        f"step of {count} at {size} x {views}: " + ", ".join(cells) + f", one graph {replay:.3f} (host {host:.3f}) ms; "
        "losses after 30 steps " + " ".join(f"{loss:.6f}" for loss in losses)
    )


def profile(count: int, size: int, views: int) -> None:
    """Say which kernels a replayed step spends its time in."""
    graph = record(Step(count, size, views, "triton"))
    graph.replay()
    torch.cuda.synchronize()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as found:
        for _ in range(10):
            graph.replay()
        torch.cuda.synchronize()
    rows = sorted(found.key_averages(), key=lambda row: -row.device_time_total)
    say(f"kernels of a step of {count} at {size} x {views}, microseconds a step:")
    for row in rows[:12]:
        say(f"  {row.device_time_total / 10:8.1f}  {row.count // 10:3d} x  {row.key[:90]}")
    say(f"  {sum(row.device_time_total for row in rows) / 10:8.1f}  {sum(row.count for row in rows) // 10:3d} x  all")


def sweep(seconds: float) -> None:
    """Say what other shapes of the kernels take, forward and backward apart, until the time is over."""
    cases = [
        make_job(make_scene(*case[:2]), *case[2:]) for case in (("start", 4096, 128, 1), ("trained", 16384, 256, 4))
    ]
    forward, backward = dict(rasteriser.FORWARD), dict(rasteriser.BACKWARD)
    shapes = [
        (bins, tile, chunk, axis, warps)
        for bins, axis, (tile, warps), chunk in itertools.product(
            (8, 16), (0, 1), ((8, 1), (8, 2), (8, 4), (16, 4), (16, 8)), (8, 16, 32)
        )
        if tile <= bins and tile * tile * chunk <= 1024 * warps
    ]
    for bins, tile, chunk, axis, warps in shapes:
        if time.perf_counter() - BEGIN > seconds:
            say("no time for the other shapes")
            break
        shape = {"BIN": bins, "TILE": tile, "CHUNK": chunk, "AXIS": axis, "num_warps": warps}
        cells = []
        for job in cases:
            rasteriser.BIN = bins
            rasteriser.FORWARD, rasteriser.BACKWARD = shape, {**backward, "BIN": bins}
            render = milliseconds(record(lambda job=job: draw(job, "triton")).replay, 7)[0]
            rasteriser.FORWARD, rasteriser.BACKWARD = {**forward, "BIN": bins}, shape
            alone = milliseconds(record(lambda job=job: draw(job, "triton")).replay, 7)[0]
            both = milliseconds(record(both_passes(job, "triton")).replay, 7)[0]
            cells.append(f"{render:.3f} + {both - alone:.3f}")
        say(f"  bins {bins} tile {tile} chunk {chunk} axis {axis} warps {warps}: " + ", ".join(cells))
    rasteriser.BIN, rasteriser.FORWARD, rasteriser.BACKWARD = forward["BIN"], forward, backward


def main() -> None:
    """Print, and write the lines if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--seconds", type=float, default=95.0)
    parser.add_argument("--no-sweep", action="store_true")
    arguments = parser.parse_args()
    backends = ["triton"] + (["gsplat"] if find_spec("gsplat") else [])
    for kind in ("start", "trained"):
        compare(kind, 300, 45, 2, "torch", torch.float64)
    if DEVICE.type == "cpu":
        return
    for other in backends[1:]:
        compare("trained", 16384, 256, 4, other, torch.float32)
    for count, size, views in (
        (4096, 64, 1),
        (4096, 128, 1),
        (4096, 256, 1),
        (4096, 256, 4),
        (16384, 256, 4),
        (16384, 512, 1),
    ):
        time_step(count, size, views, backends)
    profile(4096, 256, 4)
    for kind, count, size, views in itertools.product(
        ("start", "trained"), (4096, 16384, 100_000), (64, 128, 256, 512), (1, 4)
    ):
        if (count < 100_000 or size >= 256) and time.perf_counter() - BEGIN < arguments.seconds * 0.6:
            time_both(kind, count, size, views, backends)
    if not arguments.no_sweep:
        sweep(arguments.seconds)
    if arguments.write:
        arguments.write.write_text("\n".join(LINES) + "\n")


if __name__ == "__main__":
    main()
