"""A cache as tensors and plain values, and back: what a resumed run needs to go on as if it had not stopped."""

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from .calls import Entry, digest, new_name
from .grid import FIELDS, Key
from .messages import MESSAGES, tell

if TYPE_CHECKING:
    from .config import CacheConfig
    from .keeping import Keeping
    from .stores import Store


VERSION = 6
"""Of the form of a state."""
KINDS = ("cut", "mode", "store", "grid", "other_grids")
"""Fields of a configuration that say what an entry is, and where it lies."""
FIELDS_OF_ENTRY = ("latents", "feature", "step", "num_bytes", "uses")


def save(cache: "Keeping") -> dict[str, Any]:
    """The state of a cache; its tensors are copies on the host."""
    version, internal, gauss = cache.random.getstate()
    return {
        "version": VERSION,
        "entries_of": entries_of(cache.config),
        "storage": _copy(save_store(cache.store)),
        "weights": fingerprint(cache),
        "step": cache.step,
        "random": [version, list(internal), gauss],
        "statistics": asdict(cache.statistics),
        "guard": cache.guard.state_dict(),
        "branches": cache.branches.state_dict(),
    }


def load(cache: "Keeping", state: dict[str, Any]) -> None:
    """Bring a cache into a saved state."""
    if (version := state.get("version")) != VERSION:
        raise ValueError(f"Expected a cache's state of version {VERSION}, but got version {version}. Start anew.")
    if (other := state["entries_of"]) != (own := entries_of(cache.config)):
        raise ValueError(f"Expected a cache's state with entries of {own}, but got one of {other}. Start anew.")
    cache.release()
    load_store(cache.store, state["storage"])
    layouts = {(*each.latents.shape, each.latents.dtype, *each.feature.shape) for each in cache.store.entries()}
    if len(layouts) > 1:
        raise ValueError(f"Expected a cache's state with entries of one shape, but got {len(layouts)}. Start anew.")
    form, internal, gauss = state["random"]
    cache.random.setstate((form, tuple(internal), gauss))
    cache.step = int(state["step"])
    like = asdict(type(cache.statistics)(bypassed=dict.fromkeys(state["statistics"]["bypassed"], 0)))
    cache.statistics = type(cache.statistics)(**_convert(state["statistics"], like))
    cache.guard.load_state_dict(state["guard"])
    cache.branches.load_state_dict(state.get("branches", {}))
    cache.weights = state["weights"]
    if cache.owner() is not None:
        expect_weights(cache)


def entries_of(config: "CacheConfig") -> str:
    """What the entries of a configuration are, in words."""
    return ", ".join(f"{name}={getattr(config, name)}" for name in KINDS if hasattr(config, name))


def fingerprint(cache: "Keeping") -> str | None:
    """What tells the weights that the features are of: shapes, and one number of each row. It waits for a GPU."""
    if (unet := cache.owner()) is None:
        return cache.weights
    if any(each.is_meta for each in unet.parameters()):  # Offloaded layer by layer: unknown.
        return new_name()
    numbers = sample_weights(unet).numpy()
    return digest([(tuple(each.shape), each.dtype) for each in unet.parameters()], numbers.tobytes())


@torch.no_grad()
def sample_weights(model: nn.Module) -> Float[Tensor, " R"]:
    """The first number of each row of a model's weights, on the host. It waits for a GPU."""
    given = model.parameters()
    columns = [each[(slice(None),) + (0,) * (each.ndim - 1)] if each.ndim else each[None] for each in given]
    return torch.cat([each.float().cpu() for each in columns])


def expect_weights(cache: "Keeping") -> None:
    """Forget loaded features if the U-Net that the cache is on now has other weights."""
    if cache.store.entries() and fingerprint(cache) != cache.weights:
        cache.release()
        tell(MESSAGES["other weights"])
    cache.weights = None


def save_store(store: "Store") -> dict[str, Any]:
    """All that a store holds, with the places: it has `state_dict` if it knows more than its entries."""
    if not hasattr(store, "state_dict"):
        return {"entries": [save_entry(entry) | {"place": place} for entry, place in store.places.items()]}  # type: ignore[attr-defined]
    state: dict[str, Any] = store.state_dict()
    return state


def load_store(store: "Store", state: dict[str, Any]) -> None:
    """Hold what was saved, and nothing else: inserting it in order gives the same table."""
    store.clear()
    if hasattr(store, "load_state_dict"):
        store.load_state_dict(state)
    else:
        json.dumps([item["place"] for item in state["entries"]])  # `TypeError` unless they are plain values.
        for item in state["entries"]:
            store.insert(load_entry(item), item["place"])


def save_entry(entry: Entry) -> dict[str, Any]:
    """Tensors and plain values."""
    return {**asdict(entry.key), **{name: getattr(entry, name) for name in FIELDS_OF_ENTRY}}


def load_entry(state: dict[str, Any]) -> Entry:
    """The inverse of `save_entry`."""
    key = Key(**{name: float(state[name]) for name in FIELDS})
    counts = {name: int(state[name]) for name in ("step", "num_bytes", "uses")}
    return Entry(key=key, latents=state["latents"], feature=state["feature"], **counts)


def _convert(value: Any, like: Any) -> Any:
    """Plain values of the names and types of `like`. Raises what the types raise for values that are none of theirs."""
    return {name: _convert(value[name], like[name]) for name in like} if isinstance(like, dict) else type(like)(value)


def _copy(state: Any) -> Any:
    """A state whose tensors have memory of their own, on the host."""
    if isinstance(state, dict):
        return {name: _copy(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_copy(value) for value in state]
    return state.to("cpu", copy=True) if isinstance(state, Tensor) else state
