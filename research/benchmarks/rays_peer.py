"""How long a view of a field takes by our volume renderer and by nerfacc's, for the same field in the same process.

Usage:
    python -m research.benchmarks.rays_peer --write docs/benchmarks/rays_peer.md
    python -m research.benchmarks.rays_peer --tiny --device cpu

nerfacc 0.5.3 (`pip install nerfacc==0.5.3`; it compiles its kernels at first use, with nvcc and ninja) needs a GPU: on
a CPU only our renderer runs. The fields of `dreamfusion` and `zero123_nerf` and their views are those of `rays`. A step
draws colour and opacity, without normals, light or jitter, and goes backward from fixed random weights on the colours.
All renderers take turns, one step each a round; medians after a warm-up, by CUDA events from an idle GPU. Memory is the
peak of a step above what was held before it. Images and gradients are compared with ours.

Alike: the rays of a view are made within the time; steps of one length begin at the cube's face (or the eye), samples
are their middles; both skip the same cells of one occupancy grid, then the same faint and hidden samples by a pass for
densities alone. Different: our last step ends at the cube's face, nerfacc's is whole or left out; nerfacc adds step
lengths up, so a sample near a cell's edge may fall on the other side; it asks the field twice for the samples it keeps,
where ours takes the features of the first pass; it is given where rays enter the cube, computed before the time, as it
would else count steps from the eye; and it normalises the depth.
"""

import argparse
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from hash3d.cli.host import require_device
from hash3d.kernels import FieldBackend
from hash3d.rendering.rays import camera_rays
from hash3d.representations.nerf import Nerf
from hash3d.representations.occupancy import OccupancyGrid
from hash3d.table.report import markdown_table
from research.measured import write_measured

from .rays import Case, Watch, forget_peak, parse, prepare, print_page, relative_error

TITLE = "Rays through a field, and nerfacc"
QUESTION = "How long does a view of a field take by our volume renderer and by nerfacc's, and how much memory?"
PARTS = ("render", "backward")
DIFFERENCES = ("largest difference", "mean difference", "gradient's difference")
HEADS = (
    "system",
    "renderer",
    "field",
    "pixels",
    "samples",
    *(f"{part} ms" for part in PARTS),
    "peak GiB",
    *DIFFERENCES,
)
SYSTEMS = ("dreamfusion", "zero123_nerf")
Draw = Callable[[], tuple[Tensor, int]]
"""Returns colours, a row a pixel, and the number of samples."""


def import_nerfacc() -> Any:
    """Import nerfacc and compile its kernels. Raises `ImportError` that says what to do if either is missing."""
    advice = "Run pip install nerfacc==0.5.3 where there is nvcc: it compiles its kernels at first use."
    try:
        nerfacc = import_module("nerfacc")
        if import_module("nerfacc.cuda._backend")._C is None:
            raise ImportError("no nvcc")
    except ImportError as error:
        raise ImportError(f"Expected nerfacc and what it imports, but got: {error}. {advice}") from error
    return nerfacc


def our_draw(case: Case) -> Draw:
    """What draws the view by our renderer."""
    renderer = case.renderer.build()

    def draw() -> tuple[Tensor, int]:
        image = renderer(case.field, case.cameras, case.background, occupancy=case.occupancy)
        return image.color.flatten(0, 2), len(image.samples.weights)

    return draw


def peer_draw(nerfacc: Any, case: Case, occupancy: OccupancyGrid) -> Draw:
    """What draws the view by nerfacc, which asks the field of a case and skips the empty cells of `occupancy`."""
    field, config, side, radius = case.field, case.renderer, occupancy.config.resolution, occupancy.radius
    estimator = nerfacc.OccGridEstimator(roi_aabb=[-radius] * 3 + [radius] * 3, resolution=side, levels=1)
    estimator.to(case.background.device)
    estimator.occs.copy_(occupancy.alphas)
    estimator.binaries.copy_(occupancy.occupied.view(1, side, side, side))
    options = {"render_step_size": config.step_length(radius), "early_stop_eps": config.min_transmittance}
    options["alpha_thre"] = min(config.min_alpha, occupancy.config.threshold)
    rays = camera_rays(case.cameras, case.background, None)
    near = nerfacc.ray_aabb_intersect(rays.origins, rays.directions, estimator.aabbs)[0][:, 0]

    def draw() -> tuple[Tensor, int]:
        rays = camera_rays(case.cameras, case.background, None)

        def density(starts: Tensor, ends: Tensor, ray: Tensor) -> Tensor:
            return field.density(rays.origins[ray] + (0.5 * (starts + ends))[:, None] * rays.directions[ray])

        def color_and_density(starts: Tensor, ends: Tensor, ray: Tensor) -> tuple[Tensor, Tensor]:
            found = field.query(rays.origins[ray] + (0.5 * (starts + ends))[:, None] * rays.directions[ray])
            return found.color, found.density

        ray, starts, ends = estimator.sampling(rays.origins, rays.directions, sigma_fn=density, t_min=near, **options)
        shape = {"ray_indices": ray, "n_rays": len(rays), "render_bkgd": case.background[0]}
        return nerfacc.rendering(starts, ends, rgb_sigma_fn=color_and_density, **shape)[0], len(ray)

    return draw


def step(draw: Draw, field: Nerf, cotangents: Tensor, watch: Watch) -> dict[str, Any]:
    """Draw and go backward: the colours, the samples and the bytes at the peak."""
    field.zero_grad(set_to_none=True)
    if watch.cuda:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated() if watch.cuda else 0
    with watch("render"):
        color, samples = draw()
    with watch("backward"):
        (color * cotangents).mean().backward()
    peak = torch.cuda.max_memory_allocated() - held if watch.cuda else 0
    return {"color": color.detach(), "samples": samples, "peak": peak}


def measure(system: str, nerfacc: Any | None, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Rows of numbers, one a renderer; of ours first."""
    backends: list[FieldBackend] = ["triton", "torch"] if nerfacc else ["torch"]
    cases = {backend: prepare(system, backend, options) for backend in backends}
    case = cases[backends[0]]
    draws = {("ours", backends[0]): our_draw(case)}
    if nerfacc:
        peer = f"nerfacc {nerfacc.__version__}"
        draws |= {(peer, each): peer_draw(nerfacc, cases[each], case.occupancy) for each in backends}
    generator, shape = torch.Generator().manual_seed(1), (case.cameras.width**2, case.field.channels)
    cotangents = torch.randn(shape, generator=generator).to(case.background)
    watches = {name: Watch(options.device, PARTS) for name in draws}
    forget_peak(options.device)
    for _ in range(options.warm_up + options.repeats):
        rows, gradients = [], []
        for name, draw in draws.items():
            field = cases[name[1]].field
            rows.append(step(draw, field, cotangents, watches[name]))
            gradients.append([each.grad for each in field.parameters() if each.grad is not None])
    for name, row, gradient in zip(draws, rows, gradients, strict=True):
        gap = (row["color"] - rows[0]["color"]).abs()
        row |= {"system": system, "renderer": name[0], "backend": name[1], "size": case.cameras.width}
        row |= {"largest": float(gap.max()), "mean": float(gap.mean()), "error": relative_error(gradient, gradients[0])}
        row |= watches[name].medians(options.warm_up)
    return rows


def cells(row: dict[str, Any]) -> list[str]:
    """One line of the table."""
    words = [row["system"], row["renderer"], row["backend"], f"{row['size']}x{row['size']}", f"{row['samples']:,}"]
    words += [*(f"{row[part]:.2f}" for part in PARTS), f"{row['peak'] / 2**30:.2f}" if row["peak"] else "-"]
    return [*words, *(f"{row[name]:.1e}" for name in ("largest", "mean", "error"))]


def main() -> None:
    """Print the table, and write the page if asked."""
    options = parse(__doc__)
    require_device(options.device)
    nerfacc = import_nerfacc() if options.device == "cuda" else None
    if nerfacc is None:
        print("nerfacc needs a GPU, so only our renderer runs. Pass --device cuda to compare them.", flush=True)
    rows = [cells(row) for system in SYSTEMS for row in measure(system, nerfacc, options)]
    lines = print_page(options, markdown_table(HEADS, rows, words=3))
    if options.write:
        write_measured(options.write.with_suffix(""), TITLE, QUESTION, lines)


if __name__ == "__main__":
    main()
