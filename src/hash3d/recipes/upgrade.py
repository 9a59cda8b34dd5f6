"""Recipe files of earlier versions: types without a module, guidances and priors as fields, `draws`."""

from typing import Any

MODULES = {
    "cache.config": "DeepCacheConfig GridConfig GuardConfig Hash3DConfig",
    "cameras": "CameraSamplerConfig",
    "guidance.denoise": "DenoiseGuidanceConfig",
    "guidance.perp_neg": "PerpNegConfig",
    "guidance.stable_diffusion": "StableDiffusionGuidanceConfig",
    "guidance.zero123": "Zero123GuidanceConfig",
    "meshing.isosurface": "IsosurfaceConfig",
    "recipes.loss_weights": "LossWeights",
    "recipes.recipe": "Recipe",
    "recipes.stage": "Stage",
    "recipes.view_order": "ViewOrderConfig",
    "rendering.raster": "RasterRendererConfig",
    "rendering.shading": "ShadingConfig",
    "rendering.splat": "SplatRendererConfig",
    "rendering.volume": "VolumeRendererConfig",
    "representations.background": "EnvironmentConfig SolidBackgroundConfig",
    "representations.densify": "DensifyConfig",
    "representations.dmtet": "DmtetMeshConfig",
    "representations.encodings": "FrequencyConfig HashGridConfig",
    "representations.gaussians": "GaussiansConfig",
    "representations.nerf": "HashGridNerfConfig LatentNerfConfig VanillaNerfConfig",
    "representations.occupancy": "OccupancyGridConfig",
    "representations.point_start": "GrowthConfig PointStartConfig",
    "representations.shap_e": "ShapEConfig",
    "representations.textured_mesh": "TexturedMeshConfig",
    "schedules": "Schedule",
}
"""The types that were written without their module, by the module that has them now."""
TYPES = {name: f"hash3d.{module}:{name}" for module, names in MODULES.items() for name in names.split()}


def upgrade_type(name: str) -> str:
    """A type's name as it is written now."""
    return TYPES.get("ViewOrderConfig" if name == "DrawOrderConfig" else name, name)


def upgrade(plain: Any) -> Any:
    """A recipe's JSON as it is written now; anything else as it is."""
    if not isinstance(plain, dict) or plain.get("type") != "Recipe":
        return plain
    recipe, main = dict(plain), "text" if plain["image"] is None else "image"
    recipe["priors"] = _pair(main, recipe.pop("prior"), recipe.pop("text_prior"))
    for name in ("stage", "refinement"):
        if recipe[name] is not None:
            recipe[name] = _upgrade_stage(dict(recipe[name]), main)
    return recipe


def _upgrade_stage(stage: dict[str, Any], main: str) -> dict[str, Any]:
    losses, order, text = dict(stage["losses"]), dict(stage.pop("draws")), stage.pop("text_guidance")
    weight, text_weight, guidance = losses.pop("guidance"), losses.pop("text_guidance"), stage.pop("guidance")
    for old, new in (("dwell", "visits_per_cell"), ("open_cells", "active_cells"), ("cells", "grid")):
        order[new] = order.pop(old)
    losses["guidances"] = _pair(main, weight, text and text_weight)
    return {**stage, "guidances": _pair(main, guidance, text), "losses": losses, "view_order": order}


def _pair(main: str, first: Any, text: Any) -> dict[str, Any]:
    """A mapping of one guidance or of two, as `to_plain` writes it."""
    return {"type": "Mapping", "items": [[main, first], *([["text", text]] if text else [])]}
