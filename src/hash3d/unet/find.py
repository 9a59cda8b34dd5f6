"""Where a U-Net is, for whoever passed something else."""

from typing import Any

from diffusers import UNet2DConditionModel
from torch import nn

from .ldm import LDMLayout


def find_unet(what: Any) -> str:
    """Where in an object of another class a U-Net is: `.unet`, say; empty if nowhere."""
    if isinstance(what, nn.Module):
        return next((f".{name}" for name, module in what.named_modules() if _is_unet(module)), "")
    for name, value in getattr(what, "__dict__", {}).items():
        if _is_unet(value):
            return f".{name}"
        if isinstance(value, nn.Module) and (inside := find_unet(value)):
            return f".{name}{inside}"
    return ""


def refuse(what: Any) -> TypeError:
    """The error for what is no U-Net, with where one is."""
    where = find_unet(what)
    advice = f" Pass its {where.lstrip('.')}: there is one." if where else " Other U-Nets do not serve."
    expected = "Expected a diffusers UNet2DConditionModel, or a UNetModel of LDM"
    return TypeError(f"{expected}, but got {type(what).__name__}.{advice}")


def _is_unet(what: Any) -> bool:
    return isinstance(what, UNet2DConditionModel) or LDMLayout.fits(what)
