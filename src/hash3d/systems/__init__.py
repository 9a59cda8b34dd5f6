"""The systems: one recipe file each, and their table."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class SystemInfo:
    """A row of `hash3d systems`."""

    name: str
    input: str
    prior: str
    representation: str
    stages: str
    steps: str
    available: bool
    embedded: str = ""
    """The embedded prior that it runs with where no other is given."""


def _planned(name: str, given: str, prior: str, representation: str, stages: str, steps: str) -> SystemInfo:
    return SystemInfo(
        name=name, input=given, prior=prior, representation=representation, stages=stages, steps=steps, available=False
    )


SYSTEMS = (
    SystemInfo(
        name="zero123_gs",
        input="image",
        prior="mini-zero123, Stable-Zero123, Zero123-XL",
        representation="Gaussians",
        stages="1",
        steps="300 mini, 1,000 full",
        available=True,
        embedded="mini-zero123",
    ),
    SystemInfo(
        name="sds_gs",
        input="text",
        prior="mini-sd, Stable Diffusion 2.1 or 1.5",
        representation="Gaussians",
        stages="1",
        steps="400 mini, 5,000 full",
        available=True,
        embedded="mini-sd",
    ),
    _planned("zero123_nerf", "image", "Stable-Zero123", "hash-grid NeRF", "1", "1,000"),
    _planned("dreamgaussian", "image", "Stable-Zero123", "Gaussians, textured mesh", "2", "500 + 50"),
    _planned("magic123", "image", "Stable Diffusion 1.5, Stable-Zero123", "NeRF, mesh", "2", "10,000 + 10,000"),
    _planned("dreamfusion", "text", "Stable Diffusion 2.1", "hash-grid NeRF", "1", "10,000"),
    _planned("latent_nerf", "text", "Stable Diffusion 2.1", "latent NeRF", "1", "10,000"),
    _planned("magic3d", "text", "Stable Diffusion 2.1", "NeRF, mesh", "2", "10,000 + 10,000"),
    _planned("gaussiandreamer", "text", "Stable Diffusion 2.1", "Gaussians", "1", "1,200"),
)
"""The nine systems of the paper; `available` says whether one runs yet."""
