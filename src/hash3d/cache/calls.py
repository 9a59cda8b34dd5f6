"""What a call is for: its views, what their features depend on besides the key, and what was found for them."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import partial
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
MOST_PARTS = 1000
"""Objects that are looked into to describe a value; one that has more is never the same."""
KNOWN = ("torch", "diffusers", "transformers", "peft", "accelerate", "hash3d", "builtins", "functools")
"""Packages whose objects count as such: what a U-Net has of them is watched otherwise."""
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
    uses: int = 0
    """Lookups of it, where a store counts them."""


def copy_feature(feature: Float[Tensor, "S ..."]) -> Float[Tensor, "S ..."]:
    """A dense copy in the same order of memory: channels last, as such a U-Net leaves [S, C, h, w], or contiguous."""
    channels_last = feature.ndim == 4 and feature.stride(1) == 1 and feature.shape[1] > 1
    return feature.clone(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


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
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    """Of a block with a scope: the guidance branch of each of the different conditioning inputs of its calls."""
    is_guessed: bool = False
    """Whether one of these goes by the order of the calls alone."""
    was_asked: bool = False
    """Whether a U-Net call has come."""
    off_key: list[Any] = field(default_factory=list)
    """Of each view the timesteps of its rows in the present call, where one of them is not the key's."""

    @classmethod
    def parse(
        cls, places: dict[str, Numbers], timestep: Numbers | None, scope: object, branch_order: BranchOrder
    ) -> "View":
        """B numbers of each field, or one for all."""
        if branch_order not in ("grouped", "interleaved"):
            raise ValueError(f"Expected branch_order to be 'grouped' or 'interleaved', but got {branch_order!r}.")
        if scope is not None and describe(scope) != describe(scope):
            raise ValueError(
                f"Expected a scope that says the same when it is asked twice, but got a {type(scope).__name__} that "
                "does not. Pass what it depends on as plain values, such as the prompt."
            )
        lists = {name: numbers(name, values) for name, values in places.items()}
        count = max(map(len, lists.values()))
        spread = {name: _spread(name, values, count) for name, values in lists.items()}
        timesteps = None if timestep is None else _spread("timestep", numbers("timestep", timestep), count)
        rows = [{name: spread[name][row] for name in spread} for row in range(count)]
        return cls(places=rows, timesteps=timesteps, scope=scope, branch_order=branch_order)

    def keys(self, timestep: Numbers) -> list[Key]:
        """The keys of the views; `timestep`, one for all or for each row of the batch, if the block was given none.

        Rows whose timestep is not their key's are noted in `off_key`; those on a GPU are not read for that.
        """
        count, timesteps = len(self.places), self.timesteps
        on_host = not (isinstance(timestep, Tensor) and timestep.device.type != "cpu")
        self.off_key = [None for _ in range(count)]
        if timesteps is None or on_host:
            given = numbers("timestep", timestep)
            rows = given * (count * self.branches) if len(given) == 1 else given
            if len(rows) % count:
                raise ValueError(f"Expected a timestep for each row of {count} views, but got {len(rows)}.")
            share = len(rows) // count
            grouped = self.branch_order == "grouped"
            own = [rows[view::count] if grouped else rows[view * share :][:share] for view in range(count)]
            timesteps = timesteps or [times[0] for times in own]
            for view, (time, times) in enumerate(zip(timesteps, own, strict=True)):
                if any(abs(each - time) >= 1.0 for each in times):
                    self.off_key[view] = times
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
        if sample.device.type == "cpu" and count > 1 and not self.has_like_branches(sample, channels):
            other: BranchOrder = "grouped" if self.branch_order == "interleaved" else "interleaved"
            if replace(self, branch_order=other).has_like_branches(sample, channels):
                raise ValueError(
                    f"Expected rows in {self.branch_order} order of branches, but the branches of a view have the same "
                    f"latents in {other} order. Pass branch_order={other!r} to cache.view."
                )

    def has_like_branches(self, sample: Tensor, channels: int) -> Tensor:
        """Whether the branches of each view have the same noisy latents."""
        parts = self.split(sample[:, :channels])
        return (parts == parts[:1]).all()

    def split(self, rows: Tensor) -> Tensor:
        """[S * B, ...] of S branches of B views to [S, B, ...]."""
        if self.branch_order == "grouped":
            return rows.unflatten(0, (self.branches, -1))
        return rows.unflatten(0, (-1, self.branches)).transpose(0, 1)

    def rows(self, view: int) -> range:
        """The rows of one view's branches in the batch."""
        count = len(self.places)
        if self.branch_order == "grouped":
            return range(view, count * self.branches, count)
        return range(view * self.branches, (view + 1) * self.branches)

    def identities(self, conditions: dict[str, Any], settings: str, branch: int) -> list[str]:
        """What each view's feature depends on besides its key, as a short string.

        Args:
            conditions: the conditioning inputs of the call, by name.
            settings: how the model is set, such as its adapters.
            branch: the number of the call's guidance branch, where a scope vouches for these inputs.
        """
        count = len(self.places)
        if self.scope is None:
            known = [describe(conditions, self.rows(view), count * self.branches) for view in range(count)]
        else:
            plain = describe(conditions, of_tensor=lambda _: "tensor")
            each = isinstance(self.scope, list | tuple) and len(self.scope) == count > 1
            own: Any = self.scope if each else [None] * count
            known = [[describe(self.scope), describe(part), plain, branch] for part in own]
        return [digest(settings, own, times) for own, times in zip(known, self.off_key or [None] * count, strict=True)]


def open_view(cache: object) -> View | None:
    """The view of a cache that this thread or context has open."""
    return _OPEN.get().get(id(cache))


class Block:
    """The `with` block of a view, in this thread or context alone. It may be entered again once it is left."""

    def __init__(self, cache: Any, view: View) -> None:
        self._cache, self._view = cache, view

    def __enter__(self) -> None:
        if open_view(self._cache) is not None:
            raise RuntimeError("Expected one view at a time, but cache.view was entered inside another cache.view.")
        _OPEN.set({**_OPEN.get(), id(self._cache): replace(self._view, numbers={})})

    def __exit__(self, error: object, *_: object) -> None:
        view = open_view(self._cache)
        if error is None and view and view.is_guessed:
            self._cache.branches.close(view)
        if error is None and view and not view.was_asked and self._cache.owner():
            self._cache.tell_once("not asked")
        _OPEN.set({cache: view for cache, view in _OPEN.get().items() if cache != id(self._cache)})


def numbers(name: str, values: Numbers) -> list[float]:
    """A number, a sequence or a tensor as a list of floats on the host. Raises `TypeError` or `ValueError`."""
    given: Any = values.reshape(-1).tolist() if hasattr(values, "reshape") else values
    try:
        many = isinstance(given, Sequence) and not isinstance(given, str)
        found = [float(value) for value in (given if many else [given])]
    except (TypeError, ValueError) as error:
        kind = type(values).__name__
        raise TypeError(f"Expected {name} as a number, or a sequence or tensor of numbers, but got {kind}.") from error
    if not found or not all(map(math.isfinite, found)):
        raise ValueError(f"Expected finite numbers of {name}, at least one, but got {values}.")
    return found


def _spread(name: str, values: list[float], count: int) -> list[float]:
    """One value for all, or one for each."""
    if len(values) in (1, count):
        return values * (count // len(values))
    raise ValueError(f"Expected 1 or {count} values of {name}, one for each view, but got {len(values)}.")


def digest(*values: Any) -> str:
    """A short string that is the same for the same plain values, in every process."""
    return blake2b(repr(values).encode(), digest_size=16).hexdigest()


def describe(
    value: Any, rows: range | None = None, size: int | None = None, *, of_tensor: Callable[[Tensor], Any] | None = None
) -> Any:
    """Plain values that are the same for the same inputs. Of tensors with `size` rows only some count.

    Nothing waits for a GPU: a tensor there is known by its memory and version, one on the host by its content. An
    object counts with what it holds, and one that holds too much is never the same.
    """
    if type(value) is str:
        return repr(value)
    try:
        return _describe(value, {}, of_tensor or partial(_describe_rows, rows, size))
    except OverflowError:
        return new_name()


def _describe(value: Any, seen: dict[int, Any], of_tensor: Callable[[Tensor], Any]) -> Any:
    if isinstance(value, Tensor):
        return of_tensor(value)
    if isinstance(value, Mapping):
        return sorted((repr(name), _describe(item, seen, of_tensor)) for name, item in value.items())
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(_describe(item, seen, of_tensor) for item in value)]
    if value is None or isinstance(value, bool | int | float | str | bytes | torch.dtype | torch.device):
        return repr(value)
    if id(value) in seen:
        return ["again", list(seen).index(id(value))]
    seen[id(value)] = value
    if len(seen) > MOST_PARTS:
        raise OverflowError
    from .objects import look_into, name_of

    return [name_of(value), _describe(look_into(value), seen, of_tensor)]


def _describe_rows(rows: range | None, size: int | None, value: Tensor) -> Any:
    if rows is not None and value.ndim and len(value) == size:
        value = value[:1] if value.stride(0) == 0 else value[rows.start : rows.stop : rows.step]
    if value.device.type != "cpu":
        return token(value)
    numbers = value.detach().contiguous().reshape(-1).view(torch.uint8).numpy()
    return tuple(value.shape), repr(value.dtype), blake2b(numbers.data, digest_size=16).hexdigest()


_PROCESS, _SERIALS = urandom(8).hex(), count()
_STORAGES: dict[int, tuple[Any, str]] = {}
"""Of each storage that was seen and is alive: a weak reference and a name."""


def new_name() -> str:
    """A name that no other thing has, in this process or another."""
    return f"{_PROCESS}-{next(_SERIALS)}"


def token(tensor: Tensor) -> Any:
    """What the host knows of a tensor: which memory, in which version. Nothing, of one made in inference mode."""
    if tensor.is_inference():
        return new_name()
    storage = tensor.untyped_storage()
    found = _STORAGES.get(number := id(storage))
    if found is None or found[0]() is not storage:
        found = ref(storage, lambda _: _STORAGES.pop(number, None)), new_name()
        _STORAGES[number] = found
    return found[1], tensor._version, tensor.storage_offset(), tuple(tensor.shape), tensor.stride(), repr(tensor.dtype)
