"""Where a U-Net is, for whoever passed something else."""

from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn


def find_unet(what: Any) -> str:
    """Where in an object of another class a U-Net is: `.unet`, say; empty if nowhere."""
    if isinstance(what, nn.Module):
        inside = [f".{name}" for name, module in what.named_modules() if isinstance(module, UNet2DConditionModel)]
        return inside[0] if inside else ""
    for name, value in getattr(what, "__dict__", {}).items():
        if isinstance(value, UNet2DConditionModel):
            return f".{name}"
        if isinstance(value, nn.Module) and (inside_value := find_unet(value)):
            return f".{name}{inside_value}"
    return ""


def expect_unet(what: Any) -> None:
    """Raise `TypeError` for what is no `UNet2DConditionModel`, with where one is."""
    if not isinstance(what, UNet2DConditionModel):
        where = find_unet(what)
        advice = f" Pass its {where.lstrip('.')}: there is one." if where else " Other U-Nets do not serve."
        raise TypeError(f"Expected a diffusers UNet2DConditionModel, but got {type(what).__name__}.{advice}")
