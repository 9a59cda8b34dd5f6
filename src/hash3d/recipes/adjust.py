"""A recipe with other values in all of its stages."""

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from hash3d.schedules import Schedule, constant

from .recipe import Recipe
from .stage import Stage


def adjust(
    recipe: Recipe, *, guidance_scale: float | None = None, size: int | None = None, batch_size: int | None = None,
    lr_scale: float = 1.0, loss_scale: Mapping[str, float] | None = None,
) -> Recipe:  # fmt: skip
    """Return the recipe with other values in all of its stages; what is None or 1 stays.

    Args:
        recipe: the system's own.
        guidance_scale: classifier-free guidance of the first diffusion model, and of replay's targets.
        size: pixels a side of the random views, throughout.
        batch_size: random views a step.
        lr_scale: factor on the learning rates of the representations and of learned backgrounds.
        loss_scale: factors on the weights of losses and guidances by name; `ValueError` for one that no stage uses.
    """
    scales = dict(loss_scale or {})
    used = sorted({name for stage in recipe.stages for name in {*stage.losses.used(), *stage.losses.guidances}})
    if unknown := scales.keys() - set(used):
        raise ValueError(
            f"Expected --loss-scale of a loss of {recipe.system} ({', '.join(used)}), but got {min(unknown)!r}."
        )

    def scale_lr(name: str, value: Any) -> Any:
        return value * lr_scale if name.endswith("lr") and value is not None else value

    def scale_loss(name: str, value: Any) -> Any:
        return value * scales.get(name, 1.0)

    def set_guidance(name: str, value: Any) -> Any:
        return guidance_scale if name == "guidance_scale" and guidance_scale is not None else value

    def change(stage: Stage) -> Stage:
        first, replay = next(iter(stage.guidances)), map_values(stage.replay, set_guidance)
        return replace(
            stage,
            guidances={**stage.guidances, first: map_values(stage.guidances[first], set_guidance)},
            size=stage.size if size is None else constant(size),
            cameras=stage.cameras if batch_size is None else replace(stage.cameras, batch_size=batch_size),
            representation=map_values(stage.representation, scale_lr),
            background=map_values(stage.background, scale_lr),
            losses=map_values(stage.losses, scale_loss),
            replay=replay and replace(replay, weight=replay.weight * scales.get(first, 1.0)),
        )

    return recipe.map_stages(change)


def map_values(config: Any, change: Callable[[str, Any], Any], name: str = "") -> Any:
    """Return nested dataclasses, mappings, tuples and schedules with `change(name, value)` in place of each value."""
    if isinstance(config, Schedule):
        return Schedule(tuple((step, change(name, value)) for step, value in config.knots))
    if is_dataclass(config):
        changed = {each.name: map_values(getattr(config, each.name), change, each.name) for each in fields(config)}
        return replace(config, **changed)  # type: ignore[type-var]
    if isinstance(config, Mapping):
        return {key: map_values(value, change, key) for key, value in config.items()}
    if isinstance(config, tuple):
        return tuple(map_values(value, change, name) for value in config)
    return change(name, config)
