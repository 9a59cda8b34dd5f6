"""Hash3D on an unmodified diffusers U-Net, in two lines: `apply_hash3d`, then `with cache.view(...)` around each call.

The hook lives in diffusers' `HookRegistry`; `remove_hash3d` leaves the U-Net as it was. On a GPU its passes are
recorded and replayed (`engine`); `accelerate_unet` does that alone, without a cache.
"""

import inspect
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.hooks import HookRegistry, ModelHook
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor

from hash3d.cache import CacheConfig, FeatureCache, Hash3DConfig
from hash3d.fast.cuda_graph import Inputs
from hash3d.fast.engine import Engine, UNetEngine, adapter_state
from hash3d.transfer import to_device

from .partial_unet import PartialUNet

HOOK_NAME = "hash3d"
_PARAMETERS = list(inspect.signature(UNet2DConditionModel.forward).parameters)[1:]
_UNSUPPORTED = (
    "down_block_additional_residuals",
    "mid_block_additional_residual",
    "down_intrablock_additional_residuals",
)
"""Inputs that the shallow pass does not model (ControlNet, T2I-Adapter): such calls run in full."""


def apply_hash3d(
    unet: UNet2DConditionModel, config: CacheConfig | FeatureCache | None = None, *, engine: Engine = "auto"
) -> FeatureCache:
    """Let a U-Net reuse deep features across views and timesteps. Outside `cache.view` nothing changes.

    Args:
        unet: any diffusers `UNet2DConditionModel`; it is not modified but for a hook.
        config: a `Hash3DConfig`, a `DeepCacheConfig`, or a cache already built; None is `Hash3DConfig()`.
        engine: how the passes run inside `cache.view`. "auto" records them on a CUDA device (the weights' memory format
            becomes channels last); "eager" leaves them to PyTorch. See `hash3d.fast.engine`.

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
    cache = config if isinstance(config, FeatureCache) else (config or Hash3DConfig()).build()
    _register(unet, Hash3DHook(cache, UNetEngine(PartialUNet(unet, cache.cut), engine)))
    return cache


def accelerate_unet(unet: UNet2DConditionModel, *, engine: Engine = "auto") -> None:
    """Run a U-Net's calls without gradients by an engine, without a cache, until `remove_hash3d`.

    Raises `ValueError` if the U-Net has a cache or an engine already.
    """
    _register(unet, EngineHook(UNetEngine(PartialUNet(unet, -1), engine)))


def _register(unet: UNet2DConditionModel, hook: ModelHook) -> None:
    registry = HookRegistry.check_if_exists_or_initialize(unet)
    if registry.get_hook(HOOK_NAME) is not None:
        raise ValueError("Expected a U-Net without a cache, but it has one. Call remove_hash3d(unet) first.")
    registry.register_hook(hook, HOOK_NAME)


def remove_hash3d(unet: UNet2DConditionModel) -> None:
    """Take the cache off a U-Net; without one, nothing happens."""
    registry = getattr(unet, "_diffusers_hook", None)
    if registry is None or registry.get_hook(HOOK_NAME) is None:
        return
    registry.remove_hook(HOOK_NAME, recurse=False)
    if not registry.hooks:
        del unet._diffusers_hook
        unet.__dict__.pop("forward", None)


class EngineHook(ModelHook):  # type: ignore[misc]
    """Replaces the forward of a U-Net by passes of an engine."""

    def __init__(self, engine: UNetEngine) -> None:
        super().__init__()
        self.engine = engine
        self._inside = False

    def new_forward(self, module: Any, *args: Any, **kwargs: Any) -> Any:
        """One U-Net call."""
        inputs = {**dict(zip(_PARAMETERS, args, strict=False)), **kwargs}
        return_dict = inputs.pop("return_dict", True)
        given = {name: value for name, value in inputs.items() if value is not None}
        if self._inside or not self.serves(given):
            return self.fn_ref.original_forward(*args, **kwargs)
        self._inside = True
        try:
            prediction = self.predict(module, given)
        finally:
            self._inside = False
        return UNet2DConditionOutput(sample=prediction) if return_dict else (prediction,)

    def serves(self, inputs: Inputs) -> bool:
        """Whether a call is replaced: with gradients on, or with inputs that are not modelled, it is not."""
        return not torch.is_grad_enabled() and not any(name in inputs for name in _UNSUPPORTED)

    def predict(self, module: Any, inputs: Inputs) -> Tensor:
        """The prediction [N, C, h, w]."""
        return self.engine.plain_pass(inputs)


class Hash3DHook(EngineHook):
    """Replaces the forward of a U-Net inside a `view` block: views that hit run shallow, the others in full."""

    def __init__(self, cache: FeatureCache, engine: UNetEngine) -> None:
        super().__init__(engine)
        self.cache = cache

    def serves(self, inputs: Inputs) -> bool:
        """Whether a `view` block is open, and the shallow pass models the call's inputs."""
        return self.cache.in_view and not any(name in inputs for name in _UNSUPPORTED)

    def predict(self, module: Any, inputs: Inputs) -> Tensor:
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
            predictions, computed = self._run_full(inputs, full)
            if audits := [(row, item) for row in full if (item := found[row]) is not None]:
                reused = self._reuse(inputs, [row for row, _ in audits], self.cache.read(audits, sample[:count]))
                places = torch.tensor([full.index(row) for row, _ in audits])
                self.cache.audit(reused, predictions.index_select(1, to_device(places, predictions.device)))
            self.cache.insert(keys, full, sample[:count], computed)
            parts.append((full, predictions))
        if features is not None:
            rows = [row for row, _ in hits]
            parts.append((rows, self._reuse(inputs, rows, features)))
        return _merge(parts)

    def _run_full(self, inputs: Inputs, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Predictions [S, M, C, h, w] of the M views `rows`, and what is kept of them."""
        run = self.engine.filled(rows, self.cache.num_views)
        chosen = _choose(inputs, run, self.cache.num_views)
        prediction, kept = (self.engine.plain_pass(chosen),) * 2 if self._keeps_noise else self.engine.full_pass(chosen)
        return _by_branch(prediction, len(run))[:, : len(rows)], _by_branch(kept, len(run))[:, : len(rows)]

    def _reuse(self, inputs: Inputs, rows: list[int], features: Tensor) -> Tensor:
        """The predictions [S, M, C, h, w] of the M views `rows` from the features [S, M, ...] read for them."""
        if self._keeps_noise:
            return features
        run = self.engine.filled(rows, self.cache.num_views)
        if extra := len(run) - len(rows):
            features = torch.cat([features, features[:, -1:].expand(-1, extra, *features.shape[2:])], dim=1)
        prediction = self.engine.shallow_pass(features.flatten(0, 1), _choose(inputs, run, self.cache.num_views))
        return _by_branch(prediction, len(run))[:, : len(rows)]

    @property
    def _keeps_noise(self) -> bool:
        return self.cache.mode == "noise"

    def _signature(self, module: Any, inputs: Inputs) -> tuple[Any, ...]:
        """What stored features depend on besides the key."""
        sample, context = inputs["sample"], inputs.get("encoder_hidden_states")
        shapes = tuple(sample.shape[1:]), None if context is None else tuple(context.shape[1:])
        branches = sample.shape[0] // self.cache.num_views
        return sample.dtype, sample.device, shapes, branches, adapter_state(module)


def _by_branch(features: Tensor, count: int) -> Tensor:
    """[S * M, ...] to [S, M, ...]."""
    return features.unflatten(0, (-1, count))


def _choose(inputs: Inputs, rows: list[int], count: int) -> Inputs:
    """The inputs of the views `rows` out of `count`, every branch. All in order: the very same tensors."""
    if rows == list(range(count)):
        return inputs
    size = inputs["sample"].shape[0]
    places = torch.tensor([branch * count + row for branch in range(size // count) for row in rows])
    index = to_device(places, inputs["sample"].device)

    def choose(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: choose(item) for name, item in value.items()}
        if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == size:
            return value.index_select(0, index)
        return value

    return {name: choose(value) for name, value in inputs.items()}


def _merge(parts: list[tuple[list[int], Tensor]]) -> Tensor:
    """Predictions [S, M, ...] of parts of the views as [S * B, ...], in the order of the whole batch."""
    if len(parts) == 1:
        return parts[0][1].flatten(0, 1)
    order = torch.tensor([row for rows, _ in parts for row in rows]).argsort()
    together = torch.cat([predictions for _, predictions in parts], dim=1)
    return together.index_select(1, to_device(order, together.device)).flatten(0, 1)
