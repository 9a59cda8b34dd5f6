"""A cache as tensors and plain values, and back: what a resumed run needs to go on as if it had not stopped."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from torch import Tensor

from .calls import Entry
from .grid import FIELDS, Key

if TYPE_CHECKING:
    from .keeping import Keeping
    from .stores import Store


VERSION = 2
"""Of the form of a state."""


def save(cache: "Keeping") -> dict[str, Any]:
    """The state of a cache; its tensors are copies on the host."""
    version, internal, gauss = cache.random.getstate()
    return {
        "version": VERSION,
        "store": _copy(save_store(cache.store)),
        "storage": cache.config.storage,
        "step": cache.step,
        "random": [version, list(internal), gauss],
        "statistics": asdict(cache.statistics),
        "guard": cache.guard.state_dict(),
    }


def load(cache: "Keeping", state: dict[str, Any]) -> None:
    """Bring a cache into a saved state."""
    if (version := state.get("version")) != VERSION:
        raise ValueError(f"Expected a cache's state of version {VERSION}, but got version {version}. Start anew.")
    if state["storage"] != cache.config.storage:
        raise ValueError(
            f"Expected a state saved with storage={cache.config.storage}, but got one with {state['storage']}. "
            f"Set Hash3DConfig(storage={state['storage']!r}), or start anew."
        )
    cache.release()
    load_store(cache.store, state["store"])
    form, internal, gauss = state["random"]
    cache.random.setstate((form, tuple(internal), gauss))
    cache.step = state["step"]
    cache.statistics = type(cache.statistics)(**state["statistics"])
    cache.guard.load_state_dict(state["guard"])


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
        for item in state["entries"]:
            store.insert(load_entry(item), item["place"])


def save_entry(entry: Entry) -> dict[str, Any]:
    """Tensors and plain values."""
    state = {**asdict(entry.key), "latents": entry.latents, "step": entry.step, "num_bytes": entry.num_bytes}
    if isinstance(entry.feature, Tensor):
        return {**state, "feature": entry.feature}
    return {**state, "feature": entry.feature.codes, "scale": entry.feature.scale, "dtype": entry.feature.dtype}


def load_entry(state: dict[str, Any]) -> Entry:
    """The inverse of `save_entry`."""
    feature = state["feature"]
    if "scale" in state:
        from .memory.quantise import Quantised

        feature = Quantised(codes=feature, scale=state["scale"], dtype=state["dtype"])
    key = Key(**{name: state[name] for name in FIELDS})
    return Entry(key=key, latents=state["latents"], feature=feature, step=state["step"], num_bytes=state["num_bytes"])


def _copy(state: Any) -> Any:
    """A state whose tensors have memory of their own, on the host: an entry's are parts of a whole block of slots."""
    if isinstance(state, dict):
        return {name: _copy(value) for name, value in state.items()}
    if isinstance(state, list):
        return [_copy(value) for value in state]
    return state.to("cpu", copy=True) if isinstance(state, Tensor) else state
