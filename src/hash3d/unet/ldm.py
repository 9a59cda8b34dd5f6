"""U-Nets in the layout of LDM (Rombach et al. 2022): Zero123 and threestudio as published, MVDream, ImageDream.

Their code is copied from project to project, so that they are known by their parts, not by a class or a package:
`input_blocks` each make one skip connection, and `output_blocks` each consume one, concatenated to what enters them.
"""

import inspect
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .model import Layer, Layout, Patch

PARTS = ("time_embed", "input_blocks", "middle_block", "output_blocks", "out")
ROW_BY_ROW = {
    "UNetModel", "TimestepEmbedSequential", "ResBlock", "Downsample", "Upsample", "GroupNorm32", "SpatialTransformer",
    "BasicTransformerBlock", "CrossAttention", "MemoryEfficientCrossAttention", "FeedForward", "GEGLU",
    "AttentionBlock", "QKVAttention", "QKVAttentionLegacy",
}  # fmt: skip
"""The layers of `ldm/modules` that treat each row of a batch by itself. MVDream's attention has other names."""


class LDMLayout(Layout):
    """A `UNetModel` of LDM; its forward takes the noisy latents, the timesteps and the context, and what else it likes.

    See `hash3d.unet.model.Layout`.
    """

    residuals = ("control", "features_adapter")

    def __init__(self, unet: nn.Module) -> None:
        super().__init__(unet)
        own = tuple(inspect.signature(type(unet).forward).parameters)[1:]
        self.names = ("sample", "timestep", "encoder_hidden_states", *own[3:])
        self._own = dict(zip(self.names, own, strict=False))

    @staticmethod
    def fits(what: Any) -> bool:
        """Whether it has the parts of such a U-Net."""
        return isinstance(what, nn.Module) and all(isinstance(getattr(what, part, None), nn.Module) for part in PARTS)

    @property
    def noisy_channels(self) -> int:
        """Those of the prediction."""
        return int(self.unet.out[-1].out_channels)

    def list_layers(self) -> tuple[list[Layer], list[nn.Module]]:
        """Each block is a layer, whose first part (a convolution, residual block or downsampler) has the channels."""
        parts = [(block, block[0]) for block in self.unet.input_blocks]
        down = [
            (block, getattr(part, "out_channels", None) or part.out_layers[-1].out_channels) for block, part in parts
        ]
        return down, list(self.unet.output_blocks)

    def skip_layers(self, kept: Iterable[nn.Module], entry: nn.Module) -> list[Patch]:
        """What is skipped hands on no channels, so that concatenating costs nothing."""
        kept, up = set(kept), list(self.unet.output_blocks)
        blocks = [*self.unet.input_blocks, self.unet.middle_block, *up[: up.index(entry)]]
        return [(block, "forward", lambda states, *_, **__: states[:, :0]) for block in blocks if block not in kept]

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """See `Layout`."""
        given = {name: kwargs.pop(own) for name, own in self._own.items() if own in (kwargs := dict(kwargs))}
        return dict(zip(self.names, args, strict=False)) | given | kwargs

    def trim(self, kwargs: dict[str, Any], skip: int) -> dict[str, Any]:
        """See `Layout`. A ControlNet's list has the middle's last; a T2I-Adapter's are added at every third skip."""
        found = dict(kwargs)
        for name, places in zip(self.residuals, (count(), count(2, 3)), strict=True):
            if found.get(name) is not None:
                found[name] = [each if at <= skip else 0.0 for each, at in zip(found[name], places, strict=False)]
        return found

    def call(self, forward: Callable[..., Any], inputs: dict[str, Any]) -> Tensor:
        """See `Layout`."""
        prediction: Tensor = forward(**{self._own.get(name, name): value for name, value in inputs.items()})
        return prediction

    def wrap(self, prediction: Tensor, inputs: dict[str, Any]) -> Any:
        """The prediction itself."""
        return prediction

    def is_known(self, value: Any) -> bool:
        """Whether it is torch's, or bears the name of one of LDM's own layers."""
        return str(value.__module__).startswith("torch.") or value.__qualname__.partition(".")[0] in ROW_BY_ROW


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
