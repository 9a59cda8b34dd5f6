"""The cases step by step in one process: built on one diffusion model, then run in blocks in a rotating order."""

import copy
import gc
import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import torch
from PIL import Image, ImageDraw
from torch import nn

from hash3d.cache import CacheConfig
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.loading import EMBEDDED
from hash3d.fast.engine import Engine
from hash3d.guidance.targets import ReplayConfig
from hash3d.pictures import FramedPicture
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.schedules import Schedule, constant
from hash3d.stopwatch import Mark, Stopwatch
from hash3d.systems.stages import TOGETHER, replay
from hash3d.training.trainer import Trainer

OFF_EAGER, OFF_FAST, OURS, REPLAY = "off, eager", "off, fast", "ours", "replay"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A configuration that is measured."""

    name: str
    cache: CacheConfig | None
    engine: Engine
    unreused: str
    """The case without a cache on the same engine."""
    replay_every: int = 0
    """Steps between two targets of replay, or 0."""


def plan(recipe: Recipe) -> tuple[Case, ...]:
    """Return the cases. `recipe.cache` is ours, unless the stage has one of its own."""
    ours = recipe.stage.cache or recipe.cache
    return (
        Case(name=OFF_EAGER, cache=None, engine="eager", unreused=OFF_EAGER),
        Case(name=OFF_FAST, cache=None, engine="auto", unreused=OFF_FAST),
        Case(name=OURS, cache=ours, engine="auto", unreused=OFF_FAST),
        *[Case(name=REPLAY, cache=None, engine="auto", unreused=OFF_FAST, replay_every=ReplayConfig().every)]
        * (len(recipe.stage.guidances) == 1),
    )


def recipe_of(case: Case, recipe: Recipe) -> Recipe:
    """Return the recipe with a case's cache, or with replay in all of its steps."""
    stage = replace(recipe.stage, cache=None)
    if case.replay_every:
        together = 1 if next(iter(recipe.priors.values())) in EMBEDDED else TOGETHER
        stage = replay_throughout(stage, case.replay_every, together)
    return replace(recipe, stage=stage, cache=case.cache)


def replay_throughout(stage: Stage, every: int, together: int) -> Stage:
    """Return the stage with replay in all of its steps; one that cannot replay stays as it is."""
    stage = replay(stage, every, together)
    return replace(stage, replay=stage.replay and replace(stage.replay, until=1.0))


def steady(stage: Stage) -> Stage:
    """Return the stage with images of its schedules' last, largest size throughout, so that its steps are alike."""

    def last(sizes: Schedule) -> Schedule:
        return constant(sizes.knots[-1][1])

    return replace(stage, size=last(stage.size), reference_size=last(stage.reference_size))


PICTURE_SIZE = 512


def make_disc(folder: Path) -> Path:
    """Write a red disc on a transparent background."""
    picture = Image.new("RGBA", (PICTURE_SIZE, PICTURE_SIZE), (255, 255, 255, 0))
    margin = PICTURE_SIZE // 5
    ImageDraw.Draw(picture).ellipse((margin, margin, PICTURE_SIZE - margin, PICTURE_SIZE - margin), fill=(200, 40, 40))
    path = folder / "disc.png"
    picture.save(path)
    return path


def make_ball(folder: Path) -> Path:
    """A mesh of a ball whose colours are its positions, in place of what Shap-E would make of a text."""
    import trimesh

    ball = trimesh.creation.icosphere(subdivisions=4)
    ball.visual.vertex_colors = (255 * (0.5 + 0.5 * ball.vertices)).astype("uint8")
    path = folder / "ball.ply"
    ball.export(path)
    return path


Say = Callable[[str], None]
ModuleT = TypeVar("ModuleT", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Step:
    """One measured step."""

    ms: float
    """From its start to the next one's: on a GPU of the device, which may still work on the step before meanwhile."""
    parts: dict[str, float]
    """Milliseconds by part of the trainer's stopwatch."""
    passes: tuple[tuple[int, int], ...]
    """Full and shallow passes of each U-Net, counted per view."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """All that was measured of one case."""

    case: Case
    steps: tuple[Step, ...]
    blocks: tuple[int, ...]
    """Lengths of the blocks of steps."""
    draws: int
    """A checksum of the random numbers of cameras and noise."""
    device_ms: float | None = None
    """Milliseconds of a step in which the GPU works; in the rest it waits for the host. None on a CPU."""


Models = tuple[Mapping[str, LatentPrior], FramedPicture | None]
"""What all cases run on: the diffusion models by the names of their guidances, whose weights are shared and whose own
modules stay without hooks, and the picture."""


def with_shared_weights(module: ModuleT) -> ModuleT:
    """A copy of a module whose parameters and buffers lie in the same memory.

    The parameters are objects of their own: a copy that lays its weights out anew leaves the others as they are.
    """
    memo: dict[int, object] = {id(buffer): buffer.detach() for buffer in module.buffers()}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach(), requires_grad=parameter.requires_grad)
    return copy.deepcopy(module, memo)


class StepTimes(Stopwatch):
    """A trainer's stopwatch that keeps the steps apart. Between the marks of `mark_step` lie its parts."""

    def __init__(self, device: torch.device) -> None:
        super().__init__(device)
        self._starts: list[Mark] = []
        self._of_steps: list[tuple[int, str, Mark, Mark]] = []

    def mark_step(self) -> None:
        """A step begins, or the last one has ended."""
        self._starts.append(Mark(self._on_gpu))

    def record(self, name: str, first: Mark, last: Mark) -> None:
        """Count what lies between two moments as a part of the step."""
        self._of_steps.append((len(self._starts) - 1, name, first, last))

    def take(self) -> list[tuple[float, dict[str, float]]]:
        """Milliseconds of each step since the last call, whole and by part; waits for the GPU."""
        steps = [(1000.0 * first.seconds_to(last), dict[str, float]()) for first, last in pairwise(self._starts)]
        for step, name, first, last in self._of_steps:
            parts = steps[step][1]
            parts[name] = parts.get(name, 0.0) + 1000.0 * first.seconds_to(last)
        self._starts.clear()
        self._of_steps.clear()
        return steps


class Contestant:
    """Runs a case, its trainer on modules of its own around the shared weights."""

    def __init__(self, case: Case, recipe: Recipe, models: Models) -> None:
        (given, picture), self.case = models, case
        self.device = next(iter(given.values())).device
        self._steps, self._blocks, self._draws = list[Step](), list[int](), 0
        self._device_ms: float | None = None
        self._times = StepTimes(self.device)
        priors = {name: with_shared_weights(prior) for name, prior in given.items()}
        self.trainer = Trainer(recipe_of(case, recipe), priors, picture, stopwatch=self._times, engine=case.engine)

    def run(self, steps: int, *, measured: bool) -> None:
        """Run a block of steps, from an idle device to an idle device."""
        counts = [self._count_passes()]
        for _ in range(steps):
            self._times.mark_step()
            self.trainer.step()
            counts.append(self._count_passes())
        self._times.mark_step()
        times = self._times.take()
        for name in ("cameras", "noise"):
            self._draws = zlib.crc32(self.trainer.generators[name].get_state().numpy().tobytes(), self._draws)
        if not measured:
            return
        self._blocks.append(steps)
        for (ms, parts), before, after in zip(times, counts, counts[1:], strict=False):
            passes = tuple((now[0] - then[0], now[1] - then[1]) for then, now in zip(before, after, strict=True))
            self._steps.append(Step(ms=ms, parts=parts, passes=passes))

    def profile(self, steps: int) -> None:
        """Run a block of steps for the time in which a GPU works."""
        if self.device.type == "cuda":
            with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profiler:
                self.run(steps, measured=False)
            events = [each for each in profiler.events() or () if each.device_type.name == "CUDA"]
            self._device_ms = (
                union_length([(each.time_range.start, each.time_range.end) for each in events]) / steps / 1e3
            )

    def result(self) -> Measured:
        """Return what was measured so far."""
        return Measured(
            case=self.case, steps=tuple(self._steps), blocks=tuple(self._blocks), draws=self._draws,
            device_ms=self._device_ms,
        )  # fmt: skip

    def _count_passes(self) -> list[tuple[int, int]]:
        """Full and shallow passes of each U-Net so far, counted per view."""
        return [guidance.count_passes() for guidance in self.trainer.guidances.values()]


def measure(
    recipe: Recipe, models: Models, *, steps: int, warm_up: int, block: int = 8, say: Say = lambda _: None,
    others: Sequence[Case] = (), prepare: Callable[[Contestant], object] = lambda _: None,
) -> list[Measured]:  # fmt: skip
    """Run the cases of a recipe's first stage; the one without a cache and engine is the first.

    Args:
        recipe: its cache is ours.
        models: what all cases run on.
        steps: measured steps of each case.
        warm_up: steps before, which are not measured.
        block: steps of a case before the next case has its turn.
        say: is told how far they are.
        others: further cases.
        prepare: called for each case after its first step.
    """
    contestants = [Contestant(case, recipe, models) for case in (*plan(recipe), *others)]
    try:
        for contestant in contestants:
            contestant.run(1, measured=False)
            prepare(contestant)
        run_blocks(contestants, warm_up - 1, block, measured=False, say=say)
        gc.collect()
        run_blocks(contestants, steps, block, measured=True, say=say)
        for contestant in contestants:
            contestant.profile(block)
    finally:
        for contestant in contestants:
            contestant.trainer.close()
    results = [contestant.result() for contestant in contestants]
    draws_of = {result.draws for result in results if not result.case.replay_every}
    assert len(draws_of) == 1, "The cases saw other cameras or other noise."
    return results


def union_length(intervals: Sequence[tuple[float, float]]) -> float:
    """The length of what intervals cover together: kernels of two streams may overlap."""
    length, reached = 0.0, -math.inf
    for start, end in sorted(intervals):
        length += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return length


def run_blocks(contestants: Sequence[Contestant], steps: int, block: int, *, measured: bool, say: Say) -> None:
    """Run `steps` steps of each, in blocks whose order rotates, so that a drift of the machine meets all alike."""
    for turn, begin in enumerate(range(0, steps, block)):
        shift = turn % len(contestants)
        length = min(block, steps - begin)
        say(f"{'step' if measured else 'warm-up'} {begin + length}/{steps} of each case")
        for contestant in (*contestants[shift:], *contestants[:shift]):
            contestant.run(length, measured=measured)
