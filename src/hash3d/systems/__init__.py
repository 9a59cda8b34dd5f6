"""The systems: one recipe file each, and their table."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from hash3d.recipes.recipe import Recipe

EXAMPLES = {"image": Path("picture.png"), "prompt": "an object"}
"""What a system may start from, for a look at its recipe."""


@dataclass(frozen=True, kw_only=True)
class SystemInfo:
    """A row of the table; what else there is to know is read from the system's own file."""

    name: str
    """Of the file in this folder."""
    prior: str
    """Diffusion models that it can ask: the embedded one first, then those of full size."""
    representation: str
    """What it makes, stage by stage."""
    embedded: str
    """The embedded prior that it runs with where no other is given."""

    @property
    def recipe(self) -> Callable[..., Recipe]:
        """The function that makes its recipe."""
        found: Callable[..., Recipe] = import_module(f"{__name__}.{self.name}").recipe
        return found

    @property
    def inputs(self) -> tuple[str, ...]:
        """What it starts from: "image", "prompt", or both."""
        known = inspect.signature(self.recipe).parameters
        return tuple(name for name in EXAMPLES if name in known)

    def steps(self, scale: str) -> tuple[int, ...]:
        """Steps of each stage by default."""
        given = {name: EXAMPLES[name] for name in self.inputs}
        recipe = self.recipe(prior=self.embedded, cache=None, scale=scale, **given)
        return tuple(stage.steps for stage in recipe.stages)


_ZERO123 = "mini-zero123; Stable-Zero123, Zero123-XL"
_TEXT = "mini-sd; Stable Diffusion 2.1, 1.5"

SYSTEMS = (
    SystemInfo(name="zero123_gs", embedded="mini-zero123", prior=_ZERO123, representation="Gaussians"),
    SystemInfo(name="zero123_nerf", embedded="mini-zero123", prior=_ZERO123, representation="hash-grid NeRF"),
    SystemInfo(
        name="dreamgaussian", embedded="mini-zero123", prior=_ZERO123, representation="Gaussians, textured mesh"
    ),
    SystemInfo(
        name="magic123",
        embedded="mini-zero123",
        prior="mini-zero123 and mini-sd; Stable-Zero123 and SD 1.5",
        representation="hash-grid NeRF, DMTet mesh",
    ),
    SystemInfo(name="sds_gs", embedded="mini-sd", prior=_TEXT, representation="Gaussians"),
    SystemInfo(name="dreamfusion", embedded="mini-sd", prior=_TEXT, representation="hash-grid NeRF"),
    SystemInfo(name="latent_nerf", embedded="mini-sd", prior=_TEXT, representation="NeRF of latents"),
    SystemInfo(name="magic3d", embedded="mini-sd", prior=_TEXT, representation="hash-grid NeRF, DMTet mesh"),
    SystemInfo(name="gaussiandreamer", embedded="mini-sd", prior=_TEXT, representation="Gaussians on a rough shape"),
)
"""The nine systems of the paper, those from an image first."""
