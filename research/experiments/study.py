"""What an experiment is: a question, and variants of one recipe."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hash3d.cache import CacheConfig, Hash3DConfig
from hash3d.cli.options import find_system
from hash3d.recipes.recipe import Recipe


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How a variant differs from the base, the recipe of a system from an image without a cache."""

    name: str
    cache: CacheConfig | None = None
    steps_share: float = 1.0
    """Share of the study's steps; the schedules stretch with them."""
    change: Callable[[Recipe], Recipe] | None = None
    """Whatever else is different: draws, guidance, prior."""

    def recipe(
        self,
        *,
        image: Path,
        system: str = "zero123_gs",
        prior: str = "mini-zero123",
        scale: str = "mini",
        seed: int = 0,
        elevation: float = 5.0,
        steps: int | None = None,
    ) -> Recipe:
        """The recipe for one picture. One seed makes the same cameras, noise and initialisation in all variants."""

        def build(count: int | None) -> Recipe:
            return find_system(system).recipe(
                image=image, prior=prior, cache=self.cache, scale=scale, steps=count, seed=seed, elevation=elevation
            )

        recipe = build(steps)
        if self.steps_share != 1.0:
            recipe = build(max(round(self.steps_share * recipe.stage.steps), 1))
        recipe = self.change(recipe) if self.change else recipe
        if isinstance(recipe.cache, Hash3DConfig):
            recipe = dataclasses.replace(recipe, cache=dataclasses.replace(recipe.cache, seed=seed))
        return recipe


@dataclass(frozen=True, kw_only=True)
class Study:
    """Variants to compare; the first is what the others are compared with."""

    name: str
    title: str
    question: str
    variants: tuple[Variant, ...]
    shown: tuple[str, ...] = ()
    """The variants in the page's picture; empty: all. Five are 3,200 pixels wide."""
    plotted: bool = False
    """Whether the page has a figure of quality against reuse and cost."""

    def choose(self, names: Sequence[str] = ()) -> list[Variant]:
        """The named variants in the study's order, or all."""
        known = [variant.name for variant in self.variants]
        unknown = [name for name in names if name not in known]
        if unknown:
            raise ValueError(f"Expected variants of {self.name} ({', '.join(known)}), but got {unknown[0]!r}.")
        return [variant for variant in self.variants if not names or variant.name in names]
