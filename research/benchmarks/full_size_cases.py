"""The runs of `systems_full_size.py`: what they read, their recipes, their priors in memory."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from hash3d.bench.measure import make_ball, make_disc, replay_throughout
from hash3d.cache import Hash3DConfig
from hash3d.cli.options import find_system
from hash3d.diffusion.random_weights import LAYOUTS, ZERO123, write_random_prior
from hash3d.fast.engine import Engine
from hash3d.guidance.targets import ReplayConfig
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import NerfConfig
from hash3d.representations.point_start import PointStartConfig
from hash3d.representations.textured_mesh import TexturedMeshConfig
from hash3d.schedules import Schedule, constant
from hash3d.systems.stages import TOGETHER
from hash3d.training.guide import load_stable_diffusion, load_zero123
from hash3d.unet import remove_hash3d

CACHES = {"off": None, "on": Hash3DConfig(), "replay": None}
"""The cache of each kind of run. replay: denoised views are kept and fitted in all steps, in place of it."""
GROWTH_CANDIDATES = 100_000
"""Points around GaussianDreamer's start, of which those close to it stay."""
TINY_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Case:
    """One run of a system."""

    system: str
    cache: str
    """A key of CACHES."""
    folder: Path
    """Of the priors, the picture and the mesh."""
    device: str
    steps: int
    """Of each stage, at most as many as it has."""
    warm_up: int
    """Of these, steps that are not measured: kernels are built, and no cell has been visited yet."""
    early: bool
    """Pictures as large as at the start of the schedule, else as at its end."""
    tiny: bool
    engine: Engine = "auto"
    """How the diffusion models run."""

    @property
    def priors(self) -> tuple[str, ...]:
        """Names of the folders that it loads."""
        return LAYOUTS[find_system(self.system).inputs]


def list_cases(first: Case, systems: list[str], caches: list[str]) -> list[Case]:
    """The runs of these systems, each with these caches, replay only where there is one; the rest as `first`."""
    return [
        replace(first, system=name, cache=cache)
        for name in systems
        for cache in caches
        if cache != "replay" or find_system(name).replay_every
    ]


def prepare(cases: list[Case]) -> None:
    """Write what the cases read: priors, a red disc on a transparent ground, a coloured ball."""
    folder = cases[0].folder
    folder.mkdir(parents=True, exist_ok=True)
    make_disc(folder)
    make_ball(folder)
    for case in cases:
        for name in case.priors:
            write_random_prior(name, folder / name, device=case.device, tiny=case.tiny)


def build_recipe(case: Case) -> Recipe:
    """The `supplement` preset of a system on the random priors, for a few steps of each stage."""
    info = find_system(case.system)
    first, *second = (str(case.folder / name) for name in case.priors)
    given: dict[str, Any] = {"image": case.folder / "disc.png", "prompt": "a red mug"}
    options = {name: given[name] for name in info.inputs}
    if second:
        options["text_prior"] = second[0]
    if case.system == "gaussiandreamer":
        options["start"] = case.folder / "ball.ply"
    recipe = info.recipe(prior=first, cache=CACHES[case.cache], scale="supplement", **options)
    start = recipe.start
    if isinstance(start, PointStartConfig) and start.growth is not None:
        count = 1000 if case.tiny else GROWTH_CANDIDATES
        start = replace(start, growth=replace(start.growth, num_candidates=count))
    return replace(
        recipe,
        start=start,
        stage=shortened(recipe.stage, case),
        refinement=None if recipe.refinement is None else shortened(recipe.refinement, case),
    )


def shortened(stage: Stage, case: Case) -> Stage:
    """A stage of few steps; what a first stage of few steps has made has a surface at the level "auto" alone."""
    stage = replace(
        stage,
        steps=min(stage.steps, case.steps),
        size=one_size(stage.size, case.early),
        reference_size=one_size(stage.reference_size, case.early),
        surface=None if stage.surface is None else replace(stage.surface, level="auto"),
    )
    if case.cache == "replay":
        stage = replay_throughout(stage, ReplayConfig.every, TOGETHER)
    return shrunk(stage) if case.tiny else stage


def one_size(sizes: Schedule, early: bool) -> Schedule:
    """The first or the last size of a schedule, throughout."""
    return constant(sizes.knots[0 if early else -1][1])


def shrunk(stage: Stage) -> Stage:
    """The same stage with small parts, for a CPU."""
    parts: dict[str, Any] = {"size": constant(TINY_SIZE), "reference_size": constant(TINY_SIZE)}
    match stage.representation:
        case GaussiansConfig() as config:
            parts["representation"] = replace(config, num_points=200)
        case NerfConfig(encoding=HashGridConfig() as grid) as config:
            small = replace(grid, levels=8, log2_entries=8, base_resolution=4, finest_resolution=16)
            parts["representation"] = replace(config, encoding=small)
        case DmtetMeshConfig() as config:
            parts["representation"] = replace(config, resolution=10)
        case TexturedMeshConfig() as config:
            parts["representation"] = replace(config, texture_size=64)
    if isinstance(stage.renderer, VolumeRendererConfig):
        parts["renderer"] = replace(stage.renderer, samples_per_ray=32)
    if stage.surface is not None:
        parts["surface"] = replace(stage.surface, resolution=16)
    return replace(stage, **parts)


class Loaded:
    """The priors in memory: those of the present case alone, so that its peak counts no other."""

    def __init__(self) -> None:
        self._priors: dict[Path, Any] = {}

    def __call__(self, case: Case) -> list[Any]:
        """The case's priors on its device, without caches."""
        wanted = [case.folder / name for name in case.priors]
        self._priors = {path: prior for path, prior in self._priors.items() if path in wanted}
        for path in wanted:
            if path not in self._priors:
                load = load_zero123 if path.name == ZERO123 else load_stable_diffusion
                self._priors[path] = load(str(path), torch.device(case.device))
            remove_hash3d(self._priors[path].unet)
        return [self._priors[path] for path in wanted]


LOADED = Loaded()
