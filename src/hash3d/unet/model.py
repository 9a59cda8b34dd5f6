"""What the hook has to know of a diffusers U-Net: its layers, how it is set, and the rows of its inputs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import chain
from operator import attrgetter, is_not
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from hash3d.cache.calls import View, describe, digest

Patch = tuple[nn.Module, str, Callable[..., Any]]
"""A module, the name of one of its methods, and what is called in place of it."""
Layer = tuple[nn.Module, int]
"""A module that makes a skip connection, and the skip's channels."""
SLICES = 8
"""Calls in which all frozen weights are looked at."""
RESCAN = 64
"""Calls after which modules are compared even if none was registered: one may have been deleted."""
FREEU = ("s1", "s2", "b1", "b2")


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


class ModelWatch:
    """Sees when a U-Net's weights, layers, adapters or attention processors change, from the host alone.

    `look` at each call. What is registered anew and weights that require gradients are seen at once. Of frozen weights
    each call looks at one in `SLICES`, spread over the model: whoever loads or fuses weights writes many. Numbers
    changed behind PyTorch's back, through `parameter.data`, are not seen.
    """

    epoch = 0
    """Another number whenever a layer was exchanged."""
    writes = 0
    """Another number whenever a weight was written."""
    settings = ""
    """Another string for other adapters, strengths, attention processors, FreeU factors, or training mode."""
    mixes_views = False
    """Whether layers or processors that are not diffusers' own may mix the rows of a batch."""

    def __init__(self, unet: UNet2DConditionModel) -> None:
        self.unet: Any = unet
        self._calls = 0
        self._state: tuple[Any, ...] = ()
        self._registrations = count_registrations()
        self._scan()
        self.look()

    def _scan(self) -> None:
        """Look at all modules anew."""
        modules = list(self.unet.modules())
        self._parts = [part for module in modules for part in (module._modules, module._parameters) if part]
        self._found = self._list_parts()
        self._parameters = [parameter for parameter in self.unet.parameters() if not parameter.is_inference()]
        frozen = [parameter for parameter in self._parameters if not parameter.requires_grad]
        trained = [parameter for parameter in self._parameters if parameter.requires_grad]
        self._slices = [trained + frozen[start::SLICES] for start in range(SLICES if frozen else 1)]
        self._versions = [_sum_versions(each) for each in self._slices]
        self._adapters = [m for m in modules[1:] if hasattr(m, "active_adapters") or "scaling" in m.__dict__]
        self._attentions = [module for module in modules if hasattr(module, "processor")]
        known = ("torch.", "diffusers.", "peft.")
        self._foreign = any(not type(module).__module__.startswith(known) for module in modules)
        self._look_at_processors([module.processor for module in self._attentions])

    def _list_parts(self) -> list[Any]:
        return list(chain.from_iterable(map(dict.values, self._parts)))

    def look(self) -> None:
        """See what has changed since the last call."""
        self._calls += 1
        if self._registrations != (registrations := count_registrations()) or self._calls % RESCAN == 0:
            self._registrations, found = registrations, self._list_parts()
            if len(found) != len(self._found) or any(map(is_not, found, self._found)):
                self.epoch += 1
                self._scan()
        place = self._calls % len(self._slices)
        if _sum_versions(self._slices[place]) != self._versions[place]:
            self.writes += 1
            self._versions = [_sum_versions(each) for each in self._slices]
        processors = [module.processor for module in self._attentions]
        if any(map(is_not, processors, self._processors)):
            self._look_at_processors(processors)
        state = (
            self._kinds,
            [_processor_state(processor) for processor in self._settable],
            [_adapter_state(module) for module in self._adapters],
            [block.__dict__.get(name) for block in self.unet.up_blocks for name in FREEU],
            self.unet.training,
        )
        if state != self._state:
            self._state, self.settings = state, digest(state)

    def _look_at_processors(self, processors: list[Any]) -> None:
        self._processors, self._settable = processors, [each for each in processors if vars(each)]
        self._kinds = [_processor_state(processor) for processor in processors]
        own = ("diffusers.models.", "diffusers.loaders.")
        self.mixes_views = self._foreign or not all(type(each).__module__.startswith(own) for each in processors)

    @property
    def addresses(self) -> tuple[int, int]:
        """Where the first and the last weight lie."""
        return self._parameters[0].data_ptr(), self._parameters[-1].data_ptr()


def _sum_versions(parameters: list[nn.Parameter]) -> int:
    return sum(map(attrgetter("_version"), parameters))


@cache
def _registered() -> list[int]:
    """How many modules and parameters were registered in this process since the first call, as the only item."""
    counter = [0]

    def count(*_: Any) -> None:
        counter[0] += 1

    register_module_module_registration_hook(count)
    register_module_parameter_registration_hook(count)
    return counter


def count_registrations() -> int:
    """Another number whenever any module of this process was given a layer or a parameter."""
    return _registered()[0]


def _adapter_state(module: Any) -> tuple[Any, ...]:
    """Which adapters of a layer are on or merged, and how strong."""
    state = module.__dict__
    scaling = state.get("scaling")
    strengths = tuple(scaling.items()) if isinstance(scaling, dict) else repr(scaling)
    return (
        strengths,
        state.get("_active_adapter"),
        state.get("_disable_adapters"),
        tuple(state.get("merged_adapters", ())),
    )


def _processor_state(processor: Any) -> tuple[Any, ...]:
    """A processor's class and plain settings; one that is not diffusers' own is itself."""
    kind, plain = type(processor), bool | int | float | str | list | tuple
    own = kind.__module__.startswith("diffusers.models.")
    settings = [(name, repr(item)) for name, item in vars(processor).items() if isinstance(item, plain)]
    return kind.__qualname__, settings, None if own else describe(processor)


def needs_gradient(unet: nn.Module, inputs: dict[str, Any]) -> bool:
    """Whether a call is to be differentiated, in an input or in a weight."""
    return torch.is_grad_enabled() and (
        any(tensor.requires_grad for tensor in each_tensor(inputs))
        or any(parameter.requires_grad for parameter in unet.parameters())
    )


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
