"""What changes in a U-Net between two calls: layers, weights, hooks, attributes, adapters, attention processors."""

from copy import copy
from ctypes import string_at
from functools import cache
from itertools import chain
from operator import attrgetter, is_not, itemgetter
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.module import (
    _global_forward_hooks,
    _global_forward_pre_hooks,
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)
from torch.utils.hooks import RemovableHandle

from hash3d.cache.calls import KNOWN, describe, digest, new_name

from .model import layout_of

SLICES = 32
"""Calls in which all layers, frozen weights and attributes are looked at on a GPU."""
CUTS: list[slice] = [slice(place, None, SLICES) for place in range(SLICES)] + [slice(None)]
"""What a call looks at, by its place: one in `SLICES`, at the last place all."""
FIRST = slice(5)
"""Layers that are looked at in each call: the U-Net itself and its up blocks, which have FreeU's factors."""
START = 64
"""Bytes of a weight that each call reads on a CPU."""
ELSEWHERE = {*vars(nn.Module()), "processor"} - {"training"}
"""Attributes of a module that are watched otherwise."""
AROUND = {"forward", "_old_forward", "_hf_hook"}
"""Attributes of the U-Net that stand around its forward, accelerate's among them."""
COPIED = (list, dict, set)
"""What may be changed in place."""
FUNCTIONS = ("scaled_dot_product_attention", "linear", "conv2d", "group_norm", "layer_norm", "silu", "gelu")
"""Of `torch.nn.functional`: what others exchange for faster ones."""
_FORWARD, _CALL, _EXCHANGED = attrgetter("forward"), attrgetter("__call__"), itemgetter(*FUNCTIONS)


class ModelWatch:
    """Sees when layers, weights, hooks, attributes, adapters or attention processors change, from the host alone.

    `look` at each call. What is registered, exchanged or switched for the whole model is seen at once, on a CPU all the
    rest too. On a GPU each call looks at one in `SLICES` of frozen weights and of the layers' attributes: whoever loads
    or fuses weights writes many. Numbers written behind PyTorch's back (`parameter.data`) are seen late (`WeightSums`).
    """

    epoch = 0
    """Another number whenever a layer was exchanged."""
    writes = 0
    """Another number whenever a weight was written."""
    moves = 0
    """Another number whenever a weight was moved."""
    settings = ""
    """Another string for other attributes, hooks, adapters, strengths, attention processors, or training mode."""
    mixes_views = False
    """Whether layers or processors that are not diffusers' own may mix the rows of a batch."""
    guests: set[nn.Module]
    """Layers that have hooks, forwards or attention processors of others."""
    is_patched = False
    """Whether layers have hooks or forwards that are to run in each call."""

    def __init__(self, unet: nn.Module) -> None:
        self.unet: Any = unet
        self._is_known = layout_of(unet).is_known
        self._calls = self._changes = 0
        self._numbers: Any = None
        self._state: Any = None
        self._code, self._exchanged = dict[Any, Any](), ""
        self._scan()
        self.look()

    def _scan(self) -> None:
        """Look at all modules anew."""
        modules = list(self.unet.modules())
        self._registrations, self._handles = _registered()[0], -1
        self._parts = [p for m in modules for p in (m._modules, m._parameters, m._buffers) if p or p is m._modules]
        self._found = list(map(self._list_parts, CUTS))
        tensors = [*self.unet.parameters(), *self.unet.buffers()]
        self.parameters: list[Tensor] = [each for each in tensors if type(each) in (nn.Parameter, Tensor)] or tensors
        versioned = [each for each in self.parameters if not each.is_inference()]
        frozen = [each for each in versioned if not each.requires_grad]
        self._trained = [each for each in versioned if each.requires_grad]
        self._frozen = [frozen[cut] for cut in CUTS]
        self._trained_seen, self._frozen_seen = _sum_up(self._trained), list(map(_sum_up, self._frozen))
        self._adapters = [m for m in modules[1:] if hasattr(m, "active_adapters") or "scaling" in m.__dict__]
        self._attentions = [module for module in modules if hasattr(module, "processor")]
        first = [self.unet, *getattr(self.unet, "up_blocks", ())]  # With FreeU's factors.
        self._layers = first + [module for module in modules if module not in {*first, *self._adapters}]
        self._dicts = list(map(vars, self._layers))
        self._kinds, self._runs, self._held = list[Any](), list[Any](), set[int]()
        self._types, self._own, self._said = (list[Any]([None]) * len(self._layers) for _ in range(3))
        for number in range(len(self._layers)):
            self._describe(number)
        hooks = [each for module in modules[1:] for each in (module._forward_hooks, module._forward_pre_hooks)]
        self._hooks = [_global_forward_hooks, _global_forward_pre_hooks, *hooks]
        self._seen: list[Any] = []

    def _list_parts(self, cut: slice) -> list[Any]:
        """The layers, weights and buffers of a part of all modules."""
        return list(chain.from_iterable(map(dict.values, self._parts[cut])))

    def rest(self) -> None:
        """Say that a pass is over: hooks and layers that come now are another's, not ours or the pass's own."""
        self._handles, self._registrations = RemovableHandle.next_id, _registered()[0]

    def look(self, *, at_numbers: bool = False, at_all: bool = False) -> None:
        """See what has changed since the last call: `at_numbers` also behind PyTorch's back, `at_all` in no slices."""
        self._calls += 1
        on_host = self.parameters[0].is_cpu
        new = self._registrations != (registrations := _registered()[0])
        place = -1 if on_host or at_all else self._calls % SLICES
        found, before = self._list_parts(CUTS[-1 if new else place]), self._found[-1 if new else place]
        if len(found) != len(before) or any(map(is_not, found, before)):
            self.epoch += 1
            self._scan()
        if new:
            self._registrations, self._handles = registrations, -1
        written, moved = self._look_at_weights(place)
        if at_numbers:
            written |= self._look_at_numbers(on_host, written, moved)
        self.writes, self.moves = self.writes + written, self.moves + moved
        changes = self._changes
        for cut in [CUTS[-1]] if on_host else [FIRST, CUTS[place]]:
            self._look_at_attributes(cut)
        for number in self._held:
            self._describe(number)
        if changes != self._changes:
            self._look_at_attributes(CUTS[-1])
        self._look_at_settings()

    def _look_at_weights(self, place: int) -> tuple[bool, bool]:
        """Whether weights were written, and whether they were moved: those that train, and the frozen ones at a place.

        A change at one place is one of all places: who writes or moves a whole model is seen once.
        """
        was = *self._trained_seen, *self._frozen_seen[place]
        self._trained_seen, seen = _sum_up(self._trained), _sum_up(self._frozen[place])
        if seen != self._frozen_seen[place]:
            self._frozen_seen = list(map(_sum_up, self._frozen))
        now = *self._trained_seen, *seen
        return was[::2] != now[::2], was[1::2] != now[1::2]

    def _look_at_numbers(self, on_host: bool, written: bool, moved: bool) -> bool:
        """Whether weights were written though their version is the old one."""
        if on_host:
            before, self._numbers = self._numbers, _read_starts(self.parameters)
            return isinstance(before, list) and before != self._numbers
        if not self.parameters[0].is_cuda:
            return False
        from .weight_sums import WeightSums

        if not isinstance(self._numbers, WeightSums):
            self._numbers = WeightSums(self.parameters)
        return bool(self._numbers.look(due=moved, forget=written))

    def _look_at_attributes(self, cut: slice) -> None:
        """Describe layers anew whose class or attributes have changed."""
        try:
            if list(map(type, self._layers[cut])) == self._types[cut] and self._dicts[cut] == self._own[cut]:
                return
        except (RuntimeError, ValueError):  # An array.
            pass
        for number in range(len(self._layers))[cut]:
            self._describe(number)

    def _describe(self, number: int) -> None:
        """Note the attributes of a layer; of a user's hook or forward, the function itself."""
        layer, own = self._layers[number], self._dicts[number]
        kind, left_out = type(layer), ELSEWHERE | AROUND if layer is self.unet else ELSEWHERE
        seen = {name: copy(i) if type(i) in COPIED and name not in left_out else i for name, i in own.items()}
        try:
            if number not in self._held and (kind, seen) == (self._types[number], self._own[number]):
                return
        except (RuntimeError, ValueError):
            pass
        self._types[number], self._own[number] = kind, seen
        found = {name: item for name, item in own.items() if name not in left_out}
        if config := found.get("_internal_dict"):  # Its entries that begin with _ change no model.
            found["_internal_dict"] = {name: item for name, item in config.items() if not name.startswith("_")}
        if any(map(_may_change, found.values())):
            self._held.add(number)
        said = digest(kind if self._is_known(kind) else describe(kind), describe(found))
        if said != self._said[number]:
            self._said[number] = said
            self._changes += 1

    def _look_at_settings(self) -> None:
        if self._handles != RemovableHandle.next_id:
            self._hooked = [hooks for hooks in self._hooks if hooks]
            self.rest()
        hooks = [hook for each in self._hooked for hook in each.values()]
        processors = [module.processor for module in self._attentions]
        seen = [self._changes, *processors, *hooks, *self._list_code()]
        if len(seen) != len(self._seen) or any(map(is_not, seen, self._seen)):
            self._seen = seen
            self._find_foreign(processors, hooks)
        state = (
            self._kept,
            self._exchanged,
            [_plain_settings(processor) for processor in self._settable],
            [_adapter_state(module) for module in self._adapters],
            self._foreign and describe(self._foreign),
            [describe(self._look_at_class(kind)) for kind in self._others],
        )
        if state != self._state:
            self._state, self.settings = state, digest(state)

    def _list_code(self) -> list[Any]:
        """What runs in layers and processors of each class."""
        return [*map(_FORWARD, self._kinds), *map(_CALL, self._runs), *_EXCHANGED(vars(F))]

    def _find_foreign(self, processors: list[Any], hooks: list[Any]) -> None:
        """Note the classes of processors, the hooks, and what is not diffusers' own."""
        self._kinds = sorted({*map(type, self._layers)}, key=repr)
        self._runs = sorted({*map(type, processors)}, key=repr)
        names = [*self._kinds, *[("call", kind) for kind in self._runs], *FUNCTIONS]
        code = dict(zip(names, self._list_code(), strict=True))
        if any(self._code.get(kind, own) != own for kind, own in code.items()):
            self._exchanged = new_name()  # Also by a function that passes for the one it wraps.
        self._code |= code
        own = ("diffusers.models.", "diffusers.loaders.")
        self._foreign = [each for each in processors if not type(each).__module__.startswith(own)]
        self.guests = {module for module in self.unet.modules() if module is not self.unet and self._has_guest(module)}
        if others := [kind for kind in self._kinds if not self._is_known(kind)]:
            from hash3d.cache.objects import class_attributes

            self._look_at_class = class_attributes
        self._others = others
        self.mixes_views = bool(self._foreign or self._others)
        self._settable = [each for each in processors if vars(each)]
        patched = [kind.forward for kind in self._kinds if not self._is_known(kind.forward)]
        self.is_patched = bool(hooks or patched) or any("forward" in each for each in self._dicts[1:])
        self._kept = [type(each).__qualname__ for each in processors], describe([hooks, patched]), self._said.copy()

    def _has_guest(self, module: Any) -> bool:
        """Whether code of others runs where a layer does."""
        own = vars(module)
        calls = [
            each if hasattr(each, "__qualname__") else type(each)
            for each in map(own.get, ("forward", "processor"))
            if each
        ]
        hooks = self._hooks[0] or self._hooks[1] or module._forward_hooks or module._forward_pre_hooks
        return bool(hooks) or not all(map(self._is_known, calls))

    @property
    def addresses(self) -> tuple[int, ...]:
        """Other numbers when weights were moved."""
        return self.parameters[0].data_ptr(), self.parameters[-1].data_ptr(), self.moves


def _sum_up(parameters: list[Tensor]) -> tuple[int, int]:
    """The sums of versions and of addresses."""
    return sum(map(attrgetter("_version"), parameters)), sum(map(Tensor.data_ptr, parameters))


def _read_starts(parameters: list[Tensor]) -> list[bytes]:
    """The first bytes of each weight on the host; the first number, if they do not lie in order."""
    here = [each for each in parameters if each.is_cpu and each.nbytes]
    return [string_at(i.data_ptr(), min(i.nbytes, START) if i.is_contiguous() else i.itemsize) for i in here]


def _may_change(value: Any, *, within: bool = False) -> bool:
    """Whether an attribute holds what may change unseen: containers in a container, layers, objects of others."""
    if type(value) in (*COPIED, tuple):
        items = value.values() if type(value) is dict else value
        return (within and type(value) in COPIED) or any(_may_change(item, within=True) for item in items)
    is_object = hasattr(value, "__dict__") and not hasattr(value, "__qualname__")
    return is_object and (isinstance(value, nn.Module) or type(value).__module__.partition(".")[0] not in KNOWN)


@cache
def _registered() -> list[int]:
    """How many layers and parameters modules of this process were given since the first call, as the only item."""
    counter = [0]

    def count(*_: Any) -> None:
        counter[0] += 1

    register_module_module_registration_hook(count)
    register_module_parameter_registration_hook(count)
    return counter


def _adapter_state(module: Any) -> tuple[Any, ...]:
    """Which adapters of a layer are on or merged, and how strong."""
    state = module.__dict__
    scaling = state.get("scaling")
    strengths = tuple(scaling.items()) if isinstance(scaling, dict) else repr(scaling)
    return strengths, *map(state.get, ("_active_adapter", "_disable_adapters")), tuple(state.get("merged_adapters", ()))


def _plain_settings(processor: Any) -> list[Any]:
    """A processor's plain settings."""
    plain = (bool, int, float, str, list, tuple)
    return [(name, repr(item)) for name, item in vars(processor).items() if isinstance(item, plain)]
