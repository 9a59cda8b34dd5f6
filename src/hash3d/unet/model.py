"""What the hook has to know of a diffusers U-Net: its layers, and the rows of its inputs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from operator import attrgetter
from typing import Any

import torch
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.autograd import forward_ad

from hash3d.cache.calls import View

Patch = tuple[nn.Module, str, Callable[..., Any]]
"""A module, the name of one of its methods, and what is called in place of it."""
Layer = tuple[nn.Module, int]
"""A module that makes a skip connection, and the skip's channels."""


@contextmanager
def patched(patches: Sequence[Patch]) -> Iterator[None]:
    """Replace methods for a while. Afterwards each module's own attributes are what they were."""
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


def list_layers(unet: Any, cut: int) -> tuple[list[Layer], list[tuple[Any, int]]]:
    """The down layers, in order of their skips s = 0, 1, ..., and the up layers as block and index.

    Raises `ValueError` if their numbers differ, or if there is no such cut.
    """
    down: list[Layer] = [(unet.conv_in, unet.config.block_out_channels[0])]
    for block in unet.down_blocks:
        down += [(resnet, resnet.out_channels) for resnet in block.resnets]
        down += [(downsampler, down[-1][1]) for downsampler in block.downsamplers or ()]
    up = [(block, index) for block in unet.up_blocks for index in range(len(block.resnets))]
    if len(down) != len(up):
        raise ValueError(
            f"Expected a U-Net with one up layer for each skip connection, but {type(unet).__name__} has {len(up)} up "
            f"layers and {len(down)} skip connections."
        )
    if not -len(up) <= cut < len(up):
        raise ValueError(f"Expected the cut to be {-len(up)} to {len(up) - 1} for this U-Net, but got {cut}.")
    return down, up


def skip_layers(unet: Any, kept: Iterable[nn.Module], entry_block: nn.Module, entry_index: int) -> list[Patch]:
    """Patches that skip all layers but the down layers `kept` and the up layers from the entry on."""
    kept, patches = set(kept), list[Patch]()
    for block in unet.down_blocks:
        layers = [*block.resnets, *(block.downsamplers or ())]
        if kept.isdisjoint(layers):
            patches.append((block, "forward", _skipped_down_block(len(layers))))
        else:
            patches += _skip_in_block(block, [n for n, resnet in enumerate(block.resnets) if resnet not in kept])
            patches += [(each, "forward", _first_argument) for each in block.downsamplers or () if each not in kept]
    if unet.mid_block is not None:
        patches.append((unet.mid_block, "forward", _first_argument))
    earlier = list(unet.up_blocks)[: list(unet.up_blocks).index(entry_block)]
    patches += [(block, "forward", _first_argument) for block in earlier]
    return patches + _skip_in_block(entry_block, range(entry_index))


def _skip_in_block(block: Any, indices: Iterable[int]) -> list[Patch]:
    """Patches that skip the resnets `indices` of a block and the attentions behind them."""
    patches: list[Patch] = []
    for index in indices:
        patches.append((block.resnets[index], "forward", _first_argument))
        if attentions := getattr(block, "attentions", None):
            in_tuple = isinstance(attentions[index], Transformer2DModel)
            patches.append((attentions[index], "forward", _first_in_tuple if in_tuple else _first_argument))
    return patches


def _first_argument(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _first_in_tuple(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    return (hidden_states,)


def _skipped_down_block(num_layers: int) -> Callable[..., Any]:
    def skip(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return hidden_states, (hidden_states,) * num_layers

    return skip


def needs_gradient(unet: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether a call is to be differentiated, in an input or in a weight; forward mode does not ask for `no_grad`."""
    wants_gradient = attrgetter("requires_grad")
    backward = torch.is_grad_enabled() and (
        any(map(wants_gradient, each_tensor(inputs))) or any(map(wants_gradient, unet.parameters()))
    )
    return backward or forward_ad._current_level >= 0


def each_tensor(value: Any) -> Iterator[Tensor]:
    """The tensors in a value, in dictionaries, lists and tuples too, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict | list | tuple):
        for item in value.values() if isinstance(value, dict) else value:
            yield from each_tensor(item)


def map_tensors(function: Callable[[Tensor], Tensor], value: Any) -> Any:
    """The same value with other tensors."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {name: map_tensors(function, item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [map_tensors(function, item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def choose(call: Any, views: list[int], view: View) -> Any:
    """The inputs of some views, all branches. All in order: the very same tensors."""
    if views == list(range(len(view.places))):
        return call
    rows = [view.rows(each) for each in views]
    order = list(chain(*zip(*rows, strict=True))) if view.branch_order == "grouped" else list(chain(*rows))

    def take(tensor: Tensor) -> Tensor:
        if tensor.ndim == 0 or len(tensor) != len(view.places) * view.branches:
            return tensor
        return torch.stack([tensor[row] for row in order])

    return map_tensors(take, call)


def split(rows: Tensor, view: View) -> Tensor:
    """[S * M, ...] to [S, M, ...], in the order of the view's branches."""
    if view.branch_order == "grouped":
        return rows.unflatten(0, (view.branches, -1))
    return rows.unflatten(0, (-1, view.branches)).transpose(0, 1)


def join(parts: Tensor, view: View) -> Tensor:
    """The inverse of `split`."""
    return (parts if view.branch_order == "grouped" else parts.transpose(0, 1)).flatten(0, 1)
