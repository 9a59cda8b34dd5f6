"""The relative pose of a view, as Zero123 reads it, and which of its two conventions a folder follows."""

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.model_files import read_configuration

from .loading import PROJECTION, is_hub_name

PoseVariant = Literal["xl", "stable"]
"""stable: Stable-Zero123's convention. xl: that of Zero123, Zero123-XL and all others."""
NUM_POSE_FEATURES = 14


def decide_pose_variant(
    folder: Path, *, option: str | None = None, stated: str | None = None, name: str | None = None
) -> tuple[PoseVariant, str]:
    """Return the pose convention of a Zero123 folder and the reason.

    The first that is known decides: the option, what the folder's configuration states, the name on the hub, the hub
    cache's folder, the clone's remote, the name that the folder was saved under. The weights have the same shapes in
    both and cannot tell. If none is known, the folder's own name is followed, else XL, with a warning.

    `stated` is `pose_variant` of the camera projection's configuration, `name` the name or path that the caller gave.
    """
    for value, reason in ((option, "stated by the option"), (stated, f"stated by {PROJECTION}/config.json")):
        if value is not None:
            if value not in get_args(PoseVariant):
                raise ValueError(f"Expected the pose variant xl or stable, but {value!r} is {reason} ({folder}).")
            return value, reason  # type: ignore[return-value]
    for origin, text in _known_names(folder, name):
        if variant := read_variant(text):
            return variant, f"by {origin}, {text}"
    variant = read_variant(folder.resolve().name) or read_variant(folder.absolute().name) or "xl"
    warnings.warn(
        f"Expected {folder} to state its pose convention, but nothing does. Assumed {variant!r}; the other makes every "
        f"view wrong. Pass --pose stable or --pose xl (in Python: pose_variant).",
        stacklevel=3,
    )
    return variant, "assumed: only the folder's own name was left to go by"


def _known_names(folder: Path, name: str | None) -> Iterator[tuple[str, str]]:
    """Yield the names that a folder is known by, the most reliable first, each with where it stands."""
    if name is not None and is_hub_name(name):
        yield "the hub name", name
    for path in (folder.absolute(), folder.resolve(), (folder / PROJECTION / "config.json").resolve()):
        for parent, child in zip(path.parts, path.parts[1:], strict=False):
            if parent.startswith("models--") and child in ("snapshots", "blobs"):
                yield "the hub cache's folder", parent.removeprefix("models--").replace("--", "/")
    remote = folder / ".git" / "config"
    if remote.is_file():
        for url in re.findall(r"url\s*=\s*(\S+)", remote.read_text(errors="replace")):
            yield "the clone's remote", url
    for file in ("model_index.json", f"{PROJECTION}/config.json", "unet/config.json"):
        if (folder / file).is_file() and isinstance(
            saved := read_configuration(folder / file).get("_name_or_path"), str
        ):
            yield f"_name_or_path of {file}", saved


def read_variant(name: str) -> PoseVariant | None:
    """Return the convention that a model's name or path tells: Stable-Zero123's, that of any other Zero123, or None."""
    for word in reversed(name.lower().split("/")):
        if re.search(r"zero[-_ ]?(123|1[-_]?to[-_]?3)", word):
            return "stable" if re.search(r"(?<![a-z])stable(?![-_ ]?diffusion)", word) else "xl"
    return None


def pose_numbers(
    *,
    elevation: Float[Tensor, " B"],
    relative_azimuth: Float[Tensor, " B"],
    relative_radius: Float[Tensor, " B"],
    reference_elevation: float | Float[Tensor, " B"],
    variant: PoseVariant,
) -> Float[Tensor, "B 4"]:
    """Return the four pose numbers in radians: [polar - polar_ref, sin(d azimuth), cos(d azimuth), fourth]; degrees in.

    The polar angle is 90 - elevation. The fourth is the change of distance for `xl` (zero123, ldm/data/simple.py
    get_T) and the reference view's polar angle for `stable` (threestudio 28d9d80, stable_zero123_guidance.py).
    """
    given = reference_elevation
    reference = given.to(elevation) if isinstance(given, Tensor) else torch.full_like(elevation, given)
    azimuth = torch.deg2rad(relative_azimuth)
    fourth = torch.deg2rad(90.0 - reference) if variant == "stable" else relative_radius
    return torch.stack([torch.deg2rad(reference - elevation), azimuth.sin(), azimuth.cos(), fourth], dim=-1)


def pose_features(pose: Float[Tensor, "B 4"]) -> Float[Tensor, "B 14"]:
    """Return smooth features for the class embedding: four harmonics of the azimuth, both polar angles."""
    azimuth = torch.atan2(pose[:, 1], pose[:, 2])
    harmonics = azimuth[:, None] * torch.arange(1, 5, device=pose.device, dtype=pose.dtype)
    polar = pose[:, ::3]
    return torch.cat([harmonics.sin(), harmonics.cos(), polar, polar.sin(), polar.cos()], dim=-1)
