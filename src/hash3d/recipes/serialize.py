"""Recipes as JSON and back: each dataclass becomes an object with its fields and its type's name."""

import dataclasses
from pathlib import Path
from typing import Any

from hash3d.cache import DeepCacheConfig, GridConfig, GuardConfig, Hash3DConfig
from hash3d.cameras import CameraSamplerConfig
from hash3d.guidance.denoise import DenoiseGuidanceConfig
from hash3d.guidance.perp_neg import PerpNegConfig
from hash3d.guidance.stable_diffusion import StableDiffusionGuidanceConfig
from hash3d.guidance.zero123 import Zero123GuidanceConfig
from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.rendering.raster import RasterRendererConfig
from hash3d.rendering.shading import ShadingConfig
from hash3d.rendering.splat import SplatRendererConfig
from hash3d.rendering.volume import VolumeRendererConfig
from hash3d.representations.background import EnvironmentConfig, SolidBackgroundConfig
from hash3d.representations.densify import DensifyConfig
from hash3d.representations.dmtet import DmtetMeshConfig
from hash3d.representations.encodings import FrequencyConfig, HashGridConfig
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.nerf import HashGridNerfConfig, LatentNerfConfig, VanillaNerfConfig
from hash3d.representations.occupancy import OccupancyGridConfig
from hash3d.representations.point_start import GrowthConfig, PointStartConfig
from hash3d.representations.shap_e import ShapEConfig
from hash3d.representations.textured_mesh import TexturedMeshConfig
from hash3d.schedules import Schedule

from .loss_weights import LossWeights
from .recipe import Recipe
from .stage import Stage
from .view_order import DrawOrderConfig

_TYPES = {
    kind.__name__: kind
    for kind in (
        CameraSamplerConfig,
        DeepCacheConfig,
        DenoiseGuidanceConfig,
        DensifyConfig,
        DmtetMeshConfig,
        DrawOrderConfig,
        EnvironmentConfig,
        FrequencyConfig,
        GaussiansConfig,
        GridConfig,
        GrowthConfig,
        GuardConfig,
        Hash3DConfig,
        HashGridConfig,
        HashGridNerfConfig,
        IsosurfaceConfig,
        LatentNerfConfig,
        LossWeights,
        OccupancyGridConfig,
        PerpNegConfig,
        PointStartConfig,
        RasterRendererConfig,
        Recipe,
        Schedule,
        ShadingConfig,
        ShapEConfig,
        SolidBackgroundConfig,
        SplatRendererConfig,
        StableDiffusionGuidanceConfig,
        Stage,
        TexturedMeshConfig,
        VanillaNerfConfig,
        VolumeRendererConfig,
        Zero123GuidanceConfig,
    )
}


def to_plain(value: Any) -> Any:
    """A recipe, or a part of one, as plain JSON values."""
    if dataclasses.is_dataclass(value):
        fields = {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Path):
        return {"type": "Path", "path": str(value)}
    return [to_plain(item) for item in value] if isinstance(value, (tuple, list)) else value


def from_plain(value: Any) -> Any:
    """The inverse of `to_plain`. Raises `ValueError` for what it does not know."""
    if isinstance(value, list):
        return tuple(from_plain(item) for item in value)
    if not isinstance(value, dict):
        return value
    if value.get("type") == "Path":
        return Path(value["path"])
    if value.get("type") not in _TYPES:
        raise ValueError(f"Expected a part of a recipe, but got the type {value.get('type')!r}.")
    fields = {name: from_plain(item) for name, item in value.items() if name != "type"}
    try:
        return _TYPES[value["type"]](**fields)
    except TypeError as error:
        raise ValueError(f"The recipe was written by another version of hash3d: {error}.") from error


def difference(first: Any, second: Any, name: str = "recipe") -> str | None:
    """The first field in which two recipes differ, as "name: a against b", or None."""
    if type(first) is type(second) and dataclasses.is_dataclass(first):
        for field in dataclasses.fields(first):
            found = difference(getattr(first, field.name), getattr(second, field.name), field.name)
            if found:
                return found
        return None
    return None if first == second else f"{name}: {second} against {first}"
