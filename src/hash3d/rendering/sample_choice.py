"""The samples of a field's renders, chosen before CUDA graphs draw them, in memory that stays where it is.

How many samples a render has depends on the field, and a graph has a fixed number of rows. So the choice goes first, in
a graph of its own, and the host waits once, for the counts. Renders then take as many rows as there is a graph for.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.fast.cuda_graph import beside, recorded_into, recorded_or_none
from hash3d.representations.nerf import Nerf
from hash3d.representations.occupancy import OccupancyGrid
from hash3d.tensors import draw_on, first_rows, spread_rows

from .rays import Rays, Steps, camera_rays, march_within
from .volume import BLOCK_STEPS, VolumeRenderer

GROWTH, LEAST = 1.5, 2**16
"""New memory is for GROWTH times as many steps as there are, rounded up to a multiple of LEAST."""


class Chosen(NamedTuple):
    """Steps of rays that are numbered through all renders, and which of them the renders take.

    `order` has their rows, first those of the first render. `numbers` says how many lie before each render and in all,
    and how many steps were looked at: more than there are rows, if some are missing. `begins` are the first rays of the
    renders, and the number of all.
    """

    steps: Steps
    order: Int[Tensor, " order"]
    numbers: Int[Tensor, " numbers"]
    begins: list[int]


@torch.no_grad()
def choose_steps(
    renderer: VolumeRenderer,
    field: Nerf,
    cameras: Sequence[Cameras],
    shifts: Float[Tensor, " R"],
    capacity: int,
    occupancy: OccupancyGrid | None = None,
) -> Chosen:
    """Return the steps of renders by several cameras at which they query the field, as each render by itself would.

    `shifts` say where in its step the sample of each ray lies. No GPU is waited for.
    """
    config = renderer.config
    rays = [camera_rays(each, shifts, None) for each in cameras]
    begins = list(itertools.accumulate(map(len, rays), initial=0))
    together = Rays(*map(torch.cat, zip(*(vars(each).values() for each in rays), strict=True)))
    together = replace(together, shifts=shifts)
    length = config.step_length(field.radius)
    steps, bounds = march_within(together, field.radius, length, capacity, occupancy, backend=config.backend)
    found, bounds = bounds[-1:], bounds.clamp(max=capacity)
    row = torch.arange(capacity, device=shifts.device)
    kept = row < found
    if config.culls:
        blocks = enumerate(steps.points.split(BLOCK_STEPS))
        density = torch.cat([field.density(points, found[0] - BLOCK_STEPS * number) for number, points in blocks])
        kept &= renderer.is_seen(density, steps, len(together), occupancy, bounds)
    order, counts = first_rows(kept, capacity)
    firsts = F.pad(counts, (1, 0))[torch.stack([bounds[begin] for begin in begins])]
    return Chosen(steps, order, torch.cat([firsts, found]), begins)


class SampleChoice:
    """Chooses the samples of a step's renders; each render then reads its own.

    Args:
        renderer: whose renders.
        field: what they show.
        occupancy: cells to skip.
        recorded: whether to make a CUDA graph; without, the choice runs as it is.
        before_move: called before the memory moves that graphs with a `read` hold; they are to be dropped.
    """

    def __init__(
        self,
        renderer: VolumeRenderer,
        field: Nerf,
        occupancy: OccupancyGrid | None,
        *,
        recorded: bool,
        before_move: Callable[[], None] = lambda: None,
    ) -> None:
        self.renderer, self.field, self.occupancy = renderer, field, occupancy
        self.recorded, self.before_move = recorded, before_move
        self.device, self.failed = next(field.parameters()).device, False
        self.forget()

    def forget(self) -> None:
        """Start anew, as other images or another field need other memory."""
        self.capacity = LEAST
        """How many steps there is memory for."""
        self._cameras: Sequence[Cameras] = []
        self._shifts: Tensor | None = None
        self._noise: Tensor | None = None
        self._firsts = [0]
        self._drop()

    def _drop(self) -> None:
        """Drop the graph and its memory."""
        self.before_move()
        self._graph: Any = None
        self._chosen: Chosen | None = None
        self.pool: Any = None
        """The graph's, which those that `read` may share."""

    def __call__(self, cameras: Sequence[Cameras], generator: torch.Generator) -> list[int]:
        """Choose for renders by these cameras, whose matrices a graph reads where they are now. Return the counts.

        Random shifts of the rays come from `generator`, on the CPU, in the order of the renders.
        """
        self._cameras = cameras
        self._draw_shifts(generator)
        while True:
            chosen = self._run()
            *self._firsts, looked_at = chosen.numbers.tolist()
            if looked_at <= self.capacity:
                return [after - before for before, after in itertools.pairwise(self._firsts)]
            self._drop()
            self._noise = None
            self.capacity = LEAST * math.ceil(GROWTH * looked_at / LEAST)

    def _draw_shifts(self, generator: torch.Generator) -> None:
        """As `camera_rays` draws them, in place."""
        sizes = (len(each) * each.height * each.width for each in self._cameras)
        drawn = [draw_on(self.device, generator, torch.rand, size) for size in sizes]
        if self._shifts is None:
            self._shifts = torch.cat(drawn)
        else:
            torch.cat(drawn, out=self._shifts)

    def _run(self) -> Chosen:
        """The choice, by a graph if one can be made and its memory is large enough."""
        if self._graph is None:
            with beside(self.device) if self.recorded else nullcontext():
                self._chosen = chosen = self._choose()
            if self.recorded and int(chosen.numbers[-1]) <= self.capacity:
                self.renew()
        else:
            self._graph.replay()
        assert self._chosen is not None
        return self._chosen

    def renew(self) -> None:
        """Make a graph of the choice in a new pool, and run it."""
        if not self.recorded:
            return
        self._drop()
        self._graph = recorded_or_none("The choice of samples", self._record)
        if self._graph is None:
            self.recorded, self.failed = False, True
            self._chosen = self._choose()
        else:
            self._graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        with recorded_into(graph):
            chosen = self._choose()
        self._chosen, self.pool = chosen, graph.pool()
        return graph

    def _choose(self) -> Chosen:
        assert self._shifts is not None
        return choose_steps(self.renderer, self.field, self._cameras, self._shifts, self.capacity, self.occupancy)

    def draw_noise(self, generator: torch.Generator) -> None:
        """Draw three normal numbers for each chosen sample, by `generator`, on the CPU, in the order of the renders."""
        if self._noise is None:
            self._noise = torch.zeros(self.capacity, 3, device=self.device)
        for first, end in itertools.pairwise(self._firsts):
            self._noise[first:end] = draw_on(self.device, generator, torch.randn, end - first, 3)

    def read(self, number: int, capacity: int) -> dict[str, Tensor]:
        """The steps of a render by their names, and `noise` if it was drawn, in `capacity` rows.

        Some come twice, spread over all, in order; "counted" says which come for the first time: none, if there is
        none. A graph may hold this.
        """
        assert self._chosen is not None
        steps, order, numbers, begins = self._chosen
        spread, counted = spread_rows(numbers[number + 1] - numbers[number], capacity)
        places = (numbers[number] + spread).clamp(max=len(order) - 1)  # Of a last render without samples.
        rows = order[places]
        found = {name: each[rows] for name, each in vars(steps).items()} | {"counted": counted}
        first, end = begins[number : number + 2]
        found["rays"] = (found["rays"] - first).clamp(0, end - first - 1)  # Without samples the rows are another's.
        return found if self._noise is None else found | {"noise": self._noise[places]}
