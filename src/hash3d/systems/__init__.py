"""The systems: one recipe file each, and their table."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from hash3d.cache import RELEASED, Hash3DConfig

if TYPE_CHECKING:
    from hash3d.recipes.recipe import Recipe

FULL_SCALE_VISITS = 2
"""At most so many visits of a cell at full scale: more are proven at mini scale only."""
EXAMPLES = {"image": Path("picture.png"), "prompt": "an object"}
"""What a system may start from, for a look at its recipe."""


@dataclass(frozen=True, kw_only=True)
class SystemInfo:
    """A row of the table, which needs no torch; what else there is to know is read from the system's own file."""

    name: str
    """Of the file in this folder."""
    inputs: tuple[str, ...]
    """What it starts from: "image", "prompt", or both; arguments of its `recipe`."""
    others: tuple[str, ...] = ()
    """Further arguments of its `recipe`: "text_prior" or "start"."""
    prior: str
    """Diffusion models that it can ask: the embedded one first, then those of full size."""
    representation: str
    """What it makes, stage by stage."""
    embedded: str
    """The embedded prior that it runs with where no other is given."""

    @property
    def replay_every(self) -> int:
        """Steps between two targets of replay at mini scale by default; 0: with two diffusion models there is none."""
        return 0 if "text_prior" in self.others else 3

    @property
    def recipe(self) -> "Callable[..., Recipe]":
        """The function that makes its recipe."""
        found: Callable[..., Recipe] = import_module(f"{__name__}.{self.name}").recipe
        return found

    def steps(self, scale: str) -> tuple[int, ...]:
        """Steps of each stage by default."""
        given = {name: EXAMPLES[name] for name in self.inputs}
        recipe = self.recipe(prior=self.embedded, cache=None, scale=scale, **given)
        return tuple(stage.steps for stage in recipe.stages)


_ZERO123 = "mini-zero123; Stable-Zero123, Zero123-XL"
_TEXT = "mini-sd; Stable Diffusion 2.1, 1.5"


def _image(name: str, representation: str) -> SystemInfo:
    return SystemInfo(
        name=name, inputs=("image",), embedded="mini-zero123", prior=_ZERO123, representation=representation,
    )  # fmt: skip


def _text(name: str, representation: str, others: tuple[str, ...] = ()) -> SystemInfo:
    return SystemInfo(
        name=name, inputs=("prompt",), others=others, embedded="mini-sd", prior=_TEXT, representation=representation,
    )  # fmt: skip


SYSTEMS = (
    _image("zero123_gs", "Gaussians"),
    _image("zero123_nerf", "hash-grid NeRF"),
    _image("dreamgaussian", "Gaussians, textured mesh"),
    SystemInfo(
        name="magic123",
        inputs=("image", "prompt"),
        others=("text_prior",),
        embedded="mini-zero123",
        prior="mini-zero123 and mini-sd; Stable-Zero123 and SD 1.5",
        representation="hash-grid NeRF, DMTet mesh",
    ),
    _text("sds_gs", "Gaussians", ("start",)),
    _text("dreamfusion", "hash-grid NeRF"),
    _text("latent_nerf", "NeRF of latents"),
    _text("magic3d", "hash-grid NeRF, DMTet mesh"),
    _text("gaussiandreamer", "Gaussians on a rough shape", ("start",)),
)
"""The nine systems of the paper, those from an image first."""

_RELEASED = {
    "gaussiandreamer": replace(RELEASED, reuse_probability=0.3),
    # Its delta_t of 20 divides the distance, as the wrong order of the key has it.
    "dreamgaussian": replace(RELEASED, reuse_probability=0.5, grid=replace(RELEASED.grid, radius=20.0)),
}
"""The released code's cache, where a system has settings of its own there."""


def released_cache(system: str) -> Hash3DConfig:
    """Return the cache of the released Hash3D (cc48922) in a system: cache_p 0.1, if it has no other there."""
    return _RELEASED.get(system, RELEASED)
