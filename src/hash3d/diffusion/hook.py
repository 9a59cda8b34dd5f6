"""Hash3D on an unmodified diffusers U-Net, in two lines: `apply_hash3d`, then `with cache.view(...)` around each call.

The hook lives in diffusers' `HookRegistry`; `remove_hash3d` leaves the U-Net as it was.
"""

import inspect
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from hash3d.cache import CacheConfig, FeatureCache, Hash3DConfig

from .partial_unet import PartialUNet

HOOK_NAME = "hash3d"
_PARAMETERS = list(inspect.signature(UNet2DConditionModel.forward).parameters)[1:]
_UNSUPPORTED = (
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
)
"""Inputs that the shallow pass does not model (ControlNet, T2I-Adapter): such calls run in full."""


def apply_hash3d(unet: UNet2DConditionModel, config: CacheConfig | FeatureCache | None = None) -> FeatureCache:
    """Let a U-Net reuse deep features across views and timesteps. Outside `cache.view` nothing changes.

    Args:
        unet: any diffusers `UNet2DConditionModel`; it is not modified but for a hook.
        config: a `Hash3DConfig`, a `DeepCacheConfig`, or a cache already built; None is `Hash3DConfig()`.

    Returns:
        The cache: its `view` goes around each call, its `statistics` say what was reused.

    Raises:
        ValueError: the U-Net has a cache already, or the cut does not exist in it.

    Example:
        >>> cache = apply_hash3d(pipe.unet, Hash3DConfig(reuse_probability=0.5))
        >>> with cache.view(elevation=10.0, azimuth=30.0, radius=1.5, timestep=500):
        ...     noise_pred = pipe.unet(latents, 500, encoder_hidden_states=embeddings).sample
        >>> remove_hash3d(pipe.unet)
    """
    registry = HookRegistry.check_if_exists_or_initialize(unet)
    if registry.get_hook(HOOK_NAME) is not None:
        raise ValueError("Expected a U-Net without a cache, but it has one. Call remove_hash3d(unet) first.")
    cache = config if isinstance(config, FeatureCache) else (config or Hash3DConfig()).build()
    registry.register_hook(Hash3DHook(cache, PartialUNet(unet, cache.cut)), HOOK_NAME)
    return cache


def remove_hash3d(unet: UNet2DConditionModel) -> None:
    """Take the cache off a U-Net; without one, nothing happens."""
    registry = getattr(unet, "_diffusers_hook", None)
    if registry is None or registry.get_hook(HOOK_NAME) is None:
        return
    registry.remove_hook(HOOK_NAME, recurse=False)
    if not registry.hooks:
        del unet._diffusers_hook
        unet.__dict__.pop("forward", None)


class Hash3DHook(ModelHook):  # type: ignore[misc]
    """Replaces the forward of a U-Net inside a `view` block: views that hit run shallow, the others in full."""

    def __init__(self, cache: FeatureCache, partial: PartialUNet) -> None:
        super().__init__()
        self.cache, self.partial = cache, partial
        self._inside = False

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """One U-Net call."""
        inputs = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        modelled = all(inputs.get(name) is None for name in _UNSUPPORTED)
        if self._inside or not self.cache.in_view or not modelled:
            return self.fn_ref.original_forward(*args, **kwargs)
        self._inside = True
        try:
            prediction = self._reusing_forward(module, inputs)
        finally:
            self._inside = False
        return UNet2DConditionOutput(sample=prediction) if inputs.get("return_dict", True) else (prediction,)

    def _reusing_forward(self, module: Any, inputs: dict[str, Any]) -> Tensor:
        """The prediction [S * B, C, h, w] for S branches of B views, branch by branch: `torch.cat([x] * S)`."""
        sample, count = inputs["sample"], self.cache.num_views
        if sample.shape[0] % count:
            raise ValueError(
                f"Expected the U-Net's batch to be a multiple of the {count} views of cache.view, "
                f"one part for each guidance branch, but got {sample.shape[0]}."
            )
        self.cache.match(self._signature(module, inputs))
        keys = self.cache.keys(inputs["timestep"])
        found = self.cache.lookup(keys)
        hits = [(row, item) for row, item in enumerate(found) if item is not None and not item.audit]
        features = self.cache.read(hits, sample[:count]) if hits else None  # Before `insert` writes where they lie.
        full = [row for row in range(count) if (item := found[row]) is None or item.audit]
        parts: list[tuple[list[int], Tensor]] = []
        if full:
            prediction, computed = self._run_full(_choose(inputs, full, count))
            by_branch = _by_branch(prediction, len(full))
            if audits := [(row, item) for row in full if (item := found[row]) is not None]:
                places = [full.index(row) for row, _ in audits]
                reused = self._reuse(inputs, [row for row, _ in audits], self.cache.read(audits, sample[:count]))
                self.cache.audit(_by_branch(reused, len(audits)), by_branch[:, places])
            self.cache.insert(keys, full, sample[:count], _by_branch(computed, len(full)))
            parts.append((full, prediction))
        if features is not None:
            rows = [row for row, _ in hits]
            parts.append((rows, self._reuse(inputs, rows, features)))
        return _merge(parts, count)

    def _run_full(self, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Prediction and what is kept of it."""
        if self.cache.mode == "noise":
            prediction = self.partial.unet(**inputs, return_dict=False)[0]
            return prediction, prediction
        output, feature = self.partial.full_pass(**inputs, return_dict=False)
        return output[0], feature

    def _reuse(self, inputs: dict[str, Any], rows: list[int], features: Tensor) -> Tensor:
        """The predictions [S * M, C, h, w] of the M views `rows` from the features [S, M, ...] read for them."""
        feature = features.flatten(0, 1)
        if self.cache.mode == "noise":
            return feature
        chosen = _choose(inputs, rows, self.cache.num_views)
        prediction: Tensor = self.partial.shallow_pass(feature, **chosen, return_dict=False)[0]
        return prediction

    def _signature(self, module: Any, inputs: dict[str, Any]) -> tuple[Any, ...]:
        """What stored features depend on besides the key."""
        sample, context = inputs["sample"], inputs.get("encoder_hidden_states")
        adapters = tuple(module.active_adapters()) if getattr(module, "_hf_peft_config_loaded", False) else ()
        shapes = tuple(sample.shape[1:]), None if context is None else tuple(context.shape[1:])
        branches = sample.shape[0] // self.cache.num_views
        return sample.dtype, sample.device, shapes, branches, adapters


def _by_branch(features: Tensor, count: int) -> Tensor:
    """[S * M, ...] to [S, M, ...]."""
    return features.unflatten(0, (-1, count))


def _choose(inputs: dict[str, Any], rows: list[int], count: int) -> dict[str, Any]:
    """The inputs of the views `rows` out of `count`, every branch. All rows: the very same tensors."""
    kept = {name: value for name, value in inputs.items() if name != "return_dict"}
    if len(rows) == count:
        return kept
    size = inputs["sample"].shape[0]
    index = [branch * count + row for branch in range(size // count) for row in rows]

    def choose(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: choose(item) for name, item in value.items()}
        if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == size:
            return value[index]
        return value

    return {name: choose(value) for name, value in kept.items()}


def _merge(parts: list[tuple[list[int], Tensor]], count: int) -> Tensor:
    """Predictions of parts of the views, put back in the order of the whole batch."""
    if len(parts) == 1:
        return parts[0][1]
    by_branch = [_by_branch(prediction, len(rows)) for rows, prediction in parts]
    order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
    return torch.cat(by_branch, dim=1)[:, order.to(by_branch[0].device)].flatten(0, 1)
