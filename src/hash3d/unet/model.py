"""What the hook has to know of a U-Net: its layers, its inputs, and their rows."""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.modules.module import _global_forward_hooks, _global_forward_pre_hooks

from hash3d.cache.calls import View

Patch = tuple[nn.Module, str, Any]
"""A module, the name of one of its attributes, and what stands in place of it."""
Layer = tuple[nn.Module, int]
"""A module that makes a skip connection, and the skip's channels."""


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """Replace attributes for a while. Afterwards each module's own attributes are what they were."""
    before = [(module, name, module.__dict__.get(name)) for module, name, _ in patches]
    for module, name, patch in patches:
        module.__dict__[name] = patch
    try:
        yield
    finally:
        for module, name, method in before:
            if method is None:
                del module.__dict__[name]
            else:
                module.__dict__[name] = method


def hooks_of(patches: Sequence[Patch]) -> list[Patch]:
    """Patches that keep others' hooks on skipped layers from what passes through there."""
    if _global_forward_pre_hooks or _global_forward_hooks:
        return [(module, "_call_impl", patch) for module, _, patch in patches]
    names = ("_forward_pre_hooks", "_forward_hooks")
    return [(module, name, {}) for module, _, _ in patches for name in names if module.__dict__[name]]


def layout_of(unet: Any) -> "Layout":
    """How a U-Net is laid out. Raises `TypeError` for what is no U-Net, with where one is."""
    if isinstance(unet, UNet2DConditionModel):
        return Layout(unet)
    from .ldm import LDMLayout

    if LDMLayout.fits(unet):
        return LDMLayout(unet)
    from .ldm import refuse

    raise refuse(unet)


def count_cuts(unet: nn.Module, cut: int, down: int, up: int) -> int:
    """The number of cuts, from those of layers. Raises `ValueError` if these differ, or if there is no such cut."""
    if down != up:
        raise ValueError(
            f"Expected a U-Net with one up layer for each skip connection, but {type(unet).__name__} has {up} up "
            f"layers and {down} skip connections."
        )
    if not -up <= cut < up:
        raise ValueError(f"Expected the cut to be {-up} to {up - 1} for this U-Net, but got {cut}.")
    return up


class Layout:
    """What the hook has to know of a kind of U-Net: here of diffusers' `UNet2DConditionModel`, of any depth."""

    names: Sequence[str] = tuple(inspect.signature(UNet2DConditionModel.forward).parameters)[1:]
    """The inputs of its forward in order, the first three as diffusers names them."""
    residuals: tuple[str, ...] = (
        "down_block_additional_residuals",
        "mid_block_additional_residual",
        "down_intrablock_additional_residuals",
    )
    """Inputs that are added to skip connections (ControlNet, T2I-Adapter)."""

    def __init__(self, unet: nn.Module) -> None:
        self.unet: Any = unet

    @property
    def noisy_channels(self) -> int:
        """Of the noisy latents, as of the prediction; what follows them in the sample is conditioning.

        In 6 or 8 are a variance too (DeepFloyd IF, Kandinsky): 3 pixels, or 4 latents.
        """
        predicted = int(self.unet.config.out_channels)
        return {6: 3, 8: 4}.get(predicted, predicted)

    def list_layers(self) -> tuple[list[Layer], list[nn.Module]]:
        """The down layers, in order of their skips s = 0, 1, ..., and the first module of each up layer.

        An attention belongs to the resnet before it.
        """
        unet = self.unet
        down: list[Layer] = [(unet.conv_in, unet.config.block_out_channels[0])]
        for block in unet.down_blocks:
            down += [(resnet, resnet.out_channels) for resnet in block.resnets]
            down += [(downsampler, down[-1][1]) for downsampler in block.downsamplers or ()]
        return down, [resnet for block in unet.up_blocks for resnet in block.resnets]

    def skip_layers(self, kept: Iterable[nn.Module], entry: nn.Module) -> list[Patch]:
        """Patches that skip all layers but the down layers `kept` and the up layers from the entry on."""
        unet, kept, patches = self.unet, set(kept), list[Patch]()
        for block in unet.down_blocks:
            layers = [*block.resnets, *(block.downsamplers or ())]
            if kept.isdisjoint(layers):
                patches.append((block, "forward", _skipped_down_block(len(layers))))
            else:
                patches += _skip_in_block(block, [n for n, resnet in enumerate(block.resnets) if resnet not in kept])
                patches += [(each, "forward", _first_argument) for each in block.downsamplers or () if each not in kept]
        if unet.mid_block is not None:
            patches.append((unet.mid_block, "forward", _first_argument))
        for block in unet.up_blocks:
            if entry in (resnets := list(block.resnets)):
                return patches + _skip_in_block(block, range(resnets.index(entry)))
            patches.append((block, "forward", _first_argument))
        raise AssertionError("the entry is no up layer")

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The inputs of a call by name."""
        return dict(zip(self.names, args, strict=False)) | kwargs

    def trim(self, kwargs: dict[str, Any], skip: int) -> dict[str, Any]:
        """The arguments of a shallow pass: residuals of the skips that it makes, and 0 for the others.

        A T2I-Adapter's are one for each block, added at its last resnet.
        """
        down, middle, intra = (kwargs.get(name) for name in self.residuals)
        if down is not None and middle is not None:
            down = tuple(each if number <= skip else 0.0 for number, each in enumerate(down))
        elif down is not None:
            down, intra = None, down  # The older name of a T2I-Adapter's.
        if intra is not None:
            sizes = [len(block.resnets) + len(block.downsamplers or ()) for block in self.unet.down_blocks]
            lasts = [sum(sizes[:number]) + len(block.resnets) for number, block in enumerate(self.unet.down_blocks)]
            intra = [each if last <= skip else 0.0 for each, last in zip(intra, lasts, strict=False)]
        found = zip(self.residuals, (down, None if middle is None else 0.0, intra), strict=True)
        return {**kwargs, **{name: value for name, value in found if name in kwargs or value is not None}}

    def call(self, forward: Callable[..., Any], inputs: dict[str, Any]) -> Tensor:
        """The prediction [N, C, h, w] from inputs by name."""
        prediction: Tensor = forward(**{**inputs, "return_dict": False})[0]
        return prediction

    def wrap(self, prediction: Tensor, inputs: dict[str, Any]) -> Any:
        """The output of a call."""
        return UNet2DConditionOutput(sample=prediction) if inputs.get("return_dict", True) else (prediction,)

    def is_known(self, value: Any) -> bool:
        """Whether a class or function treats each row of a batch by itself, as torch's, diffusers' and peft's do."""
        return str(value.__module__).startswith(("torch.", "diffusers.", "peft."))


def _skip_in_block(block: Any, indices: Iterable[int]) -> list[Patch]:
    """Patches that skip the resnets `indices` of a block and the attentions behind them."""
    patches: list[Patch] = []
    for index in indices:
        patches.append((block.resnets[index], "forward", _first_argument))
        if attentions := getattr(block, "attentions", None):
            in_tuple = isinstance(attentions[index], Transformer2DModel)
            skip = (lambda hidden_states, *_, **__: (hidden_states,)) if in_tuple else _first_argument
            patches.append((attentions[index], "forward", skip))
    return patches


def _first_argument(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _skipped_down_block(num_layers: int) -> Callable[..., Any]:
    def skip(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return hidden_states, (hidden_states,) * num_layers

    return skip


def memory_format_of(unet: nn.Module) -> torch.memory_format:
    """The memory format of a U-Net's convolutions, which most of its images have."""
    weights = next((each for each in unet.parameters() if each.ndim == 4 and min(each.shape[1:]) > 1), None)
    return torch.contiguous_format if weights is None or weights.is_contiguous() else torch.channels_last


def prediction_of(output: Any) -> Tensor:
    """The prediction [N, C, h, w] in a U-Net's output."""
    prediction: Tensor = output if isinstance(output, Tensor) else output[0]
    return prediction


def needs_gradient(unet: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether a call is to be differentiated, in an input or in a weight; forward mode does not ask for `no_grad`."""
    wants_gradient = attrgetter("requires_grad")
    backward = torch.is_grad_enabled() and (
        any(map(wants_gradient, each_tensor(inputs))) or any(map(wants_gradient, unet.parameters()))
    )
    return backward or forward_ad._current_level >= 0


def is_recorded(sample: Tensor) -> bool:
    """Whether a call becomes a program that runs later, or for other samples: `torch.jit.trace`, export, `vmap`."""
    return (
        torch._C._is_tracing()
        or torch.compiler.is_exporting()
        or torch._C._functorch.peek_interpreter_stack() is not None
        or (sample.is_cuda and torch.cuda.is_current_stream_capturing())
    )


def each_tensor(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, in dictionaries, lists and tuples too, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from each_tensor(item)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same value with other tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {name: map_tensors(function, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def choose(call: Any, views: list[int], view: View) -> Any:
    """The inputs of some views, all branches. All in order: the very same tensors, in lists that may be used up."""
    if views == list(range(len(view.places))):
        return map_tensors(lambda tensor: tensor, call)

    def take(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or len(tensor) != len(view.places) * view.branches:
            return tensor
        parts = view.split(tensor).unbind(1)
        return join(torch.stack([parts[each] for each in views], dim=1), view)

    return map_tensors(take, call)


def expect_all_views(inputs: dict[str, Any], view: View) -> None:
    """Raise `ValueError` if MVDream's number of views that attend to each other is not the view's."""
    if (count := inputs.get("num_frames") or len(view.places)) != len(view.places) and count > 1:
        raise ValueError(
            f"Expected cache.view to be given all {count} views that attend to each other in this U-Net, but got "
            f"{len(view.places)}. Pass {count} azimuths."
        )


def join(parts: Tensor, view: View) -> Tensor:
    """The inverse of `View.split`: [S, M, ...] to [S * M, ...]."""
    return (parts if view.branch_order == "grouped" else parts.transpose(0, 1)).flatten(0, 1)
