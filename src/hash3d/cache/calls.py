"""What a call is for: its views, what their features depend on besides the key, and what was found for them."""

import math
import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import count
from os import urandom
from typing import Any, Literal
from weakref import ref

import torch
from jaxtyping import Float
from torch import Tensor

from .grid import Key

Numbers = float | Sequence[float] | Tensor
BranchOrder = Literal["grouped", "interleaved"]
RADIANS_AFTER = 16
"""Different azimuths within +-2 pi after which angles are taken for radians."""
MOST_OBJECTS = 4096
"""Names of values that are kept; after that they are made anew."""
_OPEN: ContextVar[dict[int, "View"]] = ContextVar("views", default={})  # noqa: B039  (it is never changed in place)


@dataclass(kw_only=True, eq=False)
class Entry:
    """One view's feature: the S guidance branches together, and the noisy latents it was computed from."""

    key: Key
    latents: Float[Tensor, "C h w"]
    feature: Float[Tensor, "S ..."]
    step: int
    """The guidance call at which it was stored. It never falls from one insert to the next."""
    num_bytes: int


def is_channels_last(feature: Float[Tensor, "S ..."]) -> bool:
    """Whether the C channels of a pixel lie together in a feature [S, C, h, w], as a channels-last U-Net leaves it."""
    return feature.ndim == 4 and feature.stride(1) == 1 and feature.shape[1] > 1


def copy_feature(feature: Float[Tensor, "S ..."]) -> Float[Tensor, "S ..."]:
    """A dense copy in the same order of memory, channels last or contiguous."""
    order = torch.channels_last if is_channels_last(feature) else torch.contiguous_format
    return feature.clone(memory_format=order)


@dataclass(kw_only=True)
class Query:
    """One view of a call: where it falls in the store, and what was found there."""

    key: Key
    place: Any
    row: int
    tried: bool = False
    """Whether it looked."""
    entries: tuple[Entry, ...] = ()
    spot_check: bool = False
    """Whether the view is to run in full too, to see how far the two predictions are apart."""

    @property
    def reuses(self) -> bool:
        """Whether what was found serves; otherwise a full pass is due."""
        return bool(self.entries) and not self.spot_check


@dataclass(kw_only=True)
class View:
    """What a `view` block says of its calls."""

    places: list[dict[str, float]]
    timesteps: list[float] | None
    scope: object
    branch_order: BranchOrder
    branches: int = 1
    """Guidance branches S of the present call."""
    conditions: list[Any] = field(default_factory=list)
    """The different conditioning inputs of the block's calls, as they came: each is a guidance branch."""

    @classmethod
    def parse(
        cls, places: dict[str, Numbers], timestep: Numbers | None, scope: object, branch_order: BranchOrder
    ) -> "View":
        """B numbers of each field, or one for all."""
        if branch_order not in ("grouped", "interleaved"):
            raise ValueError(f"Expected branch_order to be 'grouped' or 'interleaved', but got {branch_order!r}.")
        lists = {name: numbers(values) for name, values in places.items()}
        count = max(map(len, lists.values()))
        spread = {name: _spread(name, values, count) for name, values in lists.items()}
        timesteps = None if timestep is None else _spread("timestep", numbers(timestep), count)
        rows = [{name: spread[name][row] for name in spread} for row in range(count)]
        return cls(places=rows, timesteps=timesteps, scope=scope, branch_order=branch_order)

    def keys(self, timestep: Numbers) -> list[Key]:
        """The keys of the views; `timestep`, one for all or for each row of the batch, if the block was given none."""
        count, timesteps = len(self.places), self.timesteps
        if timesteps is None:
            given = numbers(timestep)
            interleaved = self.branch_order == "interleaved" and len(given) > 1
            timesteps = _spread("timestep", given[:: len(given) // count] if interleaved else given[:count], count)
        return [Key(**place, timestep=time) for place, time in zip(self.places, timesteps, strict=True)]

    def check_batch(self, sample: Tensor, channels: int) -> None:
        """Take the number of branches from a batch, and raise `ValueError` if its rows do not fit the view.

        On the host the order of the rows is checked: the branches of a view have the same noisy latents.
        """
        count = len(self.places)
        if sample.shape[0] % count:
            raise ValueError(
                f"Expected the U-Net's batch to be a multiple of the {count} views of cache.view, one part for each "
                f"guidance branch, but got {sample.shape[0]}."
            )
        self.branches = sample.shape[0] // count
        if sample.device.type == "cpu" and count > 1 and self.branches > 1:
            noisy = sample[:, :channels]
            orders = {
                "grouped": noisy.unflatten(0, (self.branches, count)),
                "interleaved": noisy.unflatten(0, (count, self.branches)).transpose(0, 1),
            }
            right = [order for order, parts in orders.items() if (parts == parts[:1]).all()]
            if right and self.branch_order not in right:
                raise ValueError(
                    f"Expected rows in {self.branch_order} order of branches, but the branches of a view have the same "
                    f"latents in {right[0]} order. Pass branch_order={right[0]!r} to cache.view."
                )

    def rows(self, view: int) -> range:
        """The rows of one view's branches in the batch."""
        count = len(self.places)
        if self.branch_order == "grouped":
            return range(view, count * self.branches, count)
        return range(view * self.branches, (view + 1) * self.branches)

    def identities(self, conditions: dict[str, Any], settings: str) -> list[str]:
        """What each view's feature depends on besides its key, as a short string.

        Args:
            conditions: the conditioning inputs of the call, by name.
            settings: how the model is set, such as its adapters.
        """
        count = len(self.places)
        if self.scope is None:
            return [
                digest(settings, describe(conditions, self.rows(view), count * self.branches)) for view in range(count)
            ]
        tensors = describe(conditions, of_tensor=_token)
        if tensors not in self.conditions:
            self.conditions.append(tensors)
        plain = describe(conditions, of_tensor=lambda _: "tensor")
        return [digest(settings, describe(self.scope), plain, self.conditions.index(tensors))] * count


def open_view(cache: object) -> View | None:
    """The view of a cache that this thread or context has open."""
    return _OPEN.get().get(id(cache))


@contextmanager
def opened(cache: object, view: View) -> Iterator[None]:
    """Open a view of a cache, in this thread or context alone."""
    if open_view(cache) is not None:
        raise RuntimeError("Expected one view at a time, but cache.view was entered inside another cache.view.")
    before = _OPEN.get()
    _OPEN.set({**before, id(cache): view})
    try:
        yield
    finally:
        _OPEN.set(before)


class AngleWatch:
    """Tells once if angles look like radians: many azimuths, none a whole number, all within +-2 pi."""

    def __init__(self) -> None:
        self._azimuths: set[float] | None = set()

    def see(self, places: Sequence[dict[str, float]]) -> None:
        """Look at the angles of a view block, until one has shown that they are degrees."""
        if self._azimuths is None:
            return
        if any(abs(place[name]) > 2 * math.pi for place in places for name in ("elevation", "azimuth")):
            self._azimuths = None
            return
        self._azimuths |= {place["azimuth"] for place in places if place["azimuth"] % 1.0}
        if len(self._azimuths) >= RADIANS_AFTER and max(self._azimuths) - min(self._azimuths) > 1.0:
            warnings.warn(
                "All angles of cache.view so far lie within +-2 pi: are they radians? Expected degrees.", stacklevel=4
            )
            self._azimuths = None


def numbers(values: Numbers) -> list[float]:
    """A number, a sequence or a tensor as a list of floats on the host."""
    if hasattr(values, "reshape"):
        values = values.reshape(-1).tolist()
    return [float(value) for value in values] if isinstance(values, Sequence) else [float(values)]


def _spread(name: str, values: list[float], count: int) -> list[float]:
    """One value for all, or one for each."""
    if len(values) == count:
        return values
    if len(values) == 1:
        return values * count
    raise ValueError(f"Expected 1 or {count} values of {name}, one for each view, but got {len(values)}.")


def digest(*values: Any) -> str:
    """A short string that is the same for the same plain values, in every process."""
    return blake2b(repr(values).encode(), digest_size=16).hexdigest()


def describe(
    value: Any, rows: range | None = None, size: int | None = None, *, of_tensor: Callable[[Tensor], Any] | None = None
) -> Any:
    """Plain values that are the same for the same inputs. Of tensors with `size` rows only some count.

    Nothing waits for a GPU: a tensor there is known by its memory and version, one on the host by its content.
    """

    def inner(value: Any) -> Any:
        if isinstance(value, Tensor):
            if of_tensor is not None:
                return of_tensor(value)
            part = value.detach()
            if rows is not None and value.ndim and len(value) == size:
                part = part[:1] if value.stride(0) == 0 else part[rows.start : rows.stop : rows.step]
            return _content(part) if value.device.type == "cpu" else _token(part)
        if isinstance(value, Mapping):
            return sorted((repr(name), inner(item)) for name, item in value.items())
        if isinstance(value, list | tuple):
            return [type(value).__name__, *map(inner, value)]
        if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device):
            return repr(value)
        if hasattr(value, "__array__"):
            return inner(torch.as_tensor(value))
        if isinstance(value, Hashable) and not isinstance(value, frozenset):
            return _known(value)
        return [type(value).__name__, inner(vars(value)) if hasattr(value, "__dict__") else sorted(map(repr, value))]

    return inner(value)


_PROCESS, _SERIALS = urandom(8).hex(), count()
_STORAGES: dict[int, tuple[Any, str]] = {}
"""Of each storage that was seen and is alive: a weak reference and a name."""
_OBJECTS: dict[Hashable, str] = {}


def _new_name() -> str:
    """A name that no other thing has, in this process or another."""
    return f"{_PROCESS}-{next(_SERIALS)}"


def _known(value: Hashable) -> str:
    """The name of a value, the same for an equal one."""
    if len(_OBJECTS) > MOST_OBJECTS:
        _OBJECTS.clear()
    return _OBJECTS.setdefault(value, _new_name())


def _token(tensor: Tensor) -> Any:
    """What the host knows of a tensor: which memory, in which version. Nothing, of one made in inference mode."""
    if tensor.is_inference():
        return _new_name()
    storage = tensor.untyped_storage()
    found = _STORAGES.get(number := id(storage))
    if found is None or found[0]() is not storage:
        found = ref(storage, lambda _: _STORAGES.pop(number, None)), _new_name()
        _STORAGES[number] = found
    return found[1], tensor._version, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), repr(tensor.dtype)


def _content(tensor: Tensor) -> Any:
    """The numbers of a tensor on the host."""
    numbers = tensor.contiguous().reshape(-1).view(torch.uint8).numpy()
    return tuple(tensor.shape), repr(tensor.dtype), blake2b(numbers.data, digest_size=16).hexdigest()
