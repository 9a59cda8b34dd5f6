"""What is compared: the same run with and without reuse, eager and on the fast path, on inputs of our own."""

from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image, ImageDraw

from hash3d.cache import CacheConfig
from hash3d.fast.engine import Engine
from hash3d.guidance.targets import ReplayConfig
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.stage import Stage
from hash3d.schedules import Schedule, constant
from hash3d.systems.stages import replay

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
    if case.replay_every and (replayed := replay(stage, case.replay_every)).replay:
        stage = replace(stage, replay=replace(replayed.replay, until=1.0))
    return replace(recipe, stage=stage, cache=case.cache)


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
