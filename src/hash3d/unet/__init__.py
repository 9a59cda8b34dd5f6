"""Hash3D on an unmodified U-Net, in two lines: `apply_hash3d`, then `with cache.view(...)` around each call.

`remove_hash3d` leaves the U-Net as it was. On a GPU the passes run as CUDA graphs (`engine`); `accelerate_unet` does
that alone, without a cache.
"""

import copy
import functools
import sys
from collections.abc import Sequence
from threading import RLock
from typing import TYPE_CHECKING, Any, Literal, get_args
from weakref import WeakKeyDictionary, ref

import torch
from torch import Tensor, nn

from hash3d.cache import CacheConfig, FeatureCache, Hash3DConfig
from hash3d.cache.calls import View, describe, digest
from hash3d.cache.grid import Key

from .model import each_tensor, is_recorded, layout_of, needs_gradient, prediction_of
from .partial_unet import PartialUNet

if TYPE_CHECKING:
    from .watch import ModelWatch

Engine = Literal["auto", "eager", "graph"]
"""auto: graph on CUDA, else eager. eager: PyTorch as it is. graph: CUDA graphs of channels-last passes with fused
layers."""

ADVICE = {
    "no view was open": "Put `with cache.view(...)` around it, in the same thread.",
    "gradients were on": "Call it under torch.no_grad(), or take requires_grad off its weights and inputs.",
    "it was recorded": "A feature would stay in what jit.trace, torch.export, vmap or a CUDA graph makes of it.",
    "it has residuals of a ControlNet or T2I-Adapter": "They are new in each call: say in cache.view(scope=...) what "
    "they depend on besides the view, such as the control image.",
}
"""Why a call runs in full without asking the cache, and what to do about it."""
_FORWARDS: "WeakKeyDictionary[nn.Module, ref[Forward]]" = WeakKeyDictionary()


def apply_hash3d(
    unet: nn.Module, config: CacheConfig | FeatureCache | None = None, *, engine: Engine = "auto"
) -> FeatureCache:
    """Let a U-Net reuse deep features across views and timesteps. Outside `cache.view` nothing changes.

    Args:
        unet: any diffusers `UNet2DConditionModel`, or a `UNetModel` of LDM (`hash3d.unet.ldm`); it is not modified but
            for its attribute `forward`.
        config: a `Hash3DConfig`, a `DeepCacheConfig`, or a cache already built; None is `Hash3DConfig()`.
        engine: how the passes run inside `cache.view`. "auto" makes CUDA graphs of them on a CUDA device (the weights'
            memory format becomes channels last); "eager" leaves them to PyTorch. See `hash3d.fast.engine`.

    Returns:
        The cache: its `view` goes around each call, its `statistics` say what was reused.

    Raises:
        TypeError: what came is no such U-Net.
        ValueError: the U-Net has a cache already, or the cut does not exist in it.

    Example:
        >>> cache = apply_hash3d(pipe.unet, Hash3DConfig(reuse_probability=0.5))
        >>> with torch.no_grad(), cache.view(elevation=10.0, azimuth=30.0, radius=1.5, timestep=500):
        ...     noise_pred = pipe.unet(latents, 500, encoder_hidden_states=embeddings).sample
        >>> remove_hash3d(pipe.unet)
    """
    from .hook import Hash3DForward

    cache = config if isinstance(config, FeatureCache) else (config or Hash3DConfig()).build()
    Hash3DForward(unet, cache.cut, engine, cache).install()
    return cache


def accelerate_unet(unet: nn.Module, *, engine: Engine = "auto") -> None:
    """Run a U-Net's calls without gradients by an engine, without a cache, until `remove_hash3d`.

    Raises `TypeError` if it is none, and `ValueError` if it has a cache or an engine already.
    """
    Forward(unet, -1, engine).install()


def remove_hash3d(unet: nn.Module) -> None:
    """Take the cache off a U-Net, and leave what others have put on before or since; without one, nothing happens."""
    found = _FORWARDS.pop(unet, None)
    if found is not None and (forward := found()) is not None:
        forward.remove()


def check_engine(engine: Engine, device: torch.device | None = None) -> None:
    """Raise `ValueError` if an engine is unknown, or cannot run on a device."""
    if engine not in get_args(Engine):
        raise ValueError(f"Expected the engine to be one of {', '.join(get_args(Engine))}, but got {engine!r}.")
    if engine == "graph" and device is not None and device.type != "cuda":
        raise ValueError(f"Expected a CUDA device for the engine {engine!r}, but got {device}. Choose 'auto'.")


class Forward:
    """Stands in the place of a U-Net's forward, as an attribute of the module, and calls that one.

    Beneath accelerate's offloading (`_old_forward`), which diffusers takes off and puts on again after each pipeline.
    A copy of the module, or a saved one, has the forward that was there before; a shallow one from its first call on.
    """

    check_every = 1
    """Calls from one to the next in which is looked at what a feature depends on; between them it is as it was."""

    def __init__(self, unet: nn.Module, cut: int, engine: Engine, cache: FeatureCache | None = None) -> None:
        check_engine(engine)
        self.unet: Any = unet
        self.layout = layout_of(unet)
        self.cut, self.engine, self.cache = cut, engine, cache
        self._watch: ModelWatch | None = None
        slot = "_old_forward" if {"_hf_hook", "_old_forward"} <= vars(unet).keys() else "forward"
        if isinstance(before := vars(unet).get(slot), Forward) and before.unet is not unet:
            before._put_back(unet)  # A shallow copy.
        self._slot, self._before = slot, vars(unet).get(slot)
        inner = self.__wrapped__
        self._native = getattr(inner, "__func__", None) is type(unet).forward and inner.__self__ is unet
        self._before = None if self._native and slot == "_old_forward" else self._before  # Accelerate's bound method.
        self.passes = self._eager = PartialUNet(unet, cut, self._run_wrapped)
        self._fast: PartialUNet | None = None
        self._lock, self._busy, self._removed = RLock(), False, False
        self._calls, self._known = 0, tuple[Any, ...]()

    @property
    def __wrapped__(self) -> Any:
        """The forward that was there before, or that of the class as it is now."""
        return self._before or type(self.unet).forward.__get__(self.unet)

    def _run_wrapped(self, *args: Any, **kwargs: Any) -> Any:
        return self.__wrapped__(*args, **kwargs)

    def install(self) -> None:
        """Become the module's forward."""
        if (found := _FORWARDS.get(self.unet)) is not None and found() is not None:
            raise ValueError("Expected a U-Net without a cache, but it has one. Call remove_hash3d(unet) first.")
        if self.cache is not None:
            self._claim(self.cache)
        setattr(self.unet, self._slot, self)
        _FORWARDS[self.unet] = ref(self)

    def _claim(self, cache: FeatureCache) -> None:
        """Take a cache. Features of an earlier use are forgotten, and loaded ones of other weights."""
        if cache.owner() not in (None, self.unet):
            raise ValueError(
                "Expected a cache that is on no other U-Net. Build one for each, or remove it there first."
            )
        cache.release(loaded=False)
        cache.owner = ref(self.unet)
        if cache.weights is not None:
            from hash3d.cache.state import expect_weights

            expect_weights(cache)

    def remove(self) -> None:
        """Give the module its own forward back. Under another's patch only hand on the calls, until that goes."""
        if self.cache is not None and not self._removed:
            if self.cache.store.entries():
                from hash3d.cache.state import fingerprint

                self.cache.weights = fingerprint(self.cache)
            self.cache.owner = lambda: None
        self._removed = True
        self._put_back(self.unet)

    def _put_back(self, module: nn.Module) -> None:
        """Give a module the forward that was there before, if ours is there now."""
        if vars(module).get("_old_forward") is self:
            module._old_forward = self._before or type(module).forward.__get__(module)
        elif vars(module).get("forward") is self:
            del module.forward
            if self._before is not None:
                module.forward = self._before

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """One U-Net call. Of several threads one runs at a time: a shallow pass patches the module's layers."""
        caller: Any = sys._getframe(1).f_locals.get("self")
        if caller is not self.unet and type(caller) is type(self.unet) and vars(caller).get("forward") is self:
            self._put_back(caller)  # A shallow copy, such as a replica of `nn.DataParallel`.
            return caller.forward(*args, **kwargs)
        if self._removed:
            self.remove()
            return self.__wrapped__(*args, **kwargs)
        with self._lock:
            inputs, checks = self.layout.bind(args, kwargs), self._calls % self.check_every == 0
            if checks:
                self._known = ()
            if self._busy or "sample" not in inputs or not self._serves(inputs):
                return self.__wrapped__(*args, **kwargs)
            self._busy, self._calls = True, self._calls + 1
            try:
                if checks:
                    self.watch.look(at_numbers=self.cache is not None)
                self._choose_passes(inputs["sample"].device)
                prediction = self.run(args, kwargs, inputs)
            finally:
                if checks:
                    self.watch.rest()
                self._busy = False
        return self.layout.wrap(prediction, inputs)

    def run(self, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: dict[str, Any]) -> Tensor:
        """The prediction [N, C, h, w]."""
        return prediction_of(self.passes.plain_pass(*args, **kwargs))

    def _serves(self, inputs: dict[str, Any]) -> bool:
        """Whether a call is replaced; one that the cache cannot serve is counted there, and told once of its kind."""
        cache, view = self.cache, None if self.cache is None else self.cache.current_view
        if cache and view:
            view.was_asked = True
            if self._known and cache.is_enabled and view.scope is not None and not torch.is_grad_enabled():
                view.branches = inputs["sample"].shape[0] // len(view.places)
                return True  # Between two checks.
        gradients, recorded = needs_gradient(self.unet, inputs), is_recorded(inputs["sample"])
        residuals = any(inputs.get(name) is not None for name in self.layout.residuals)
        if cache is None or not cache.is_enabled:
            self._pass_by(view, inputs)
            return not (gradients or recorded or residuals)
        unknown = residuals and (view is None or view.scope is None)
        for reason, holds in zip(ADVICE, (view is None, gradients, recorded, unknown), strict=True):
            if holds:
                cache.statistics.bypass(reason, ADVICE[reason])
                if not recorded:
                    self._pass_by(view, inputs)
                return False
        return True

    def _pass_by(self, view: View | None, inputs: dict[str, Any]) -> None:
        """Count a call that runs without the cache among the guidance branches of its view."""
        if self.cache is not None and view is not None and view.scope is not None:
            self.cache.branches.number(view, self._conditions(inputs, view))

    def _conditions(self, inputs: dict[str, Any], view: View) -> dict[str, Any]:
        """The conditioning inputs of a call."""
        own, channels = ("sample", "timestep", "return_dict"), self.layout.noisy_channels
        found = {name: value for name, value in inputs.items() if name not in own and value is not None}
        if inputs["sample"].shape[1] > channels and view.scope is None:
            found["sample"] = inputs["sample"][:, channels:]  # Such as a reference image, or a mask.
        return found

    def _choose_passes(self, device: torch.device) -> None:
        """As PyTorch runs them, or on a GPU as CUDA graphs. Not around others' patches and offloading."""
        check_engine(self.engine, device)
        self.passes = self._eager
        others = self.mixes_views or self.watch.is_patched or "_hf_hook" in vars(self.unet)
        if self.engine != "eager" and device.type == "cuda" and not others:
            from hash3d.fast.engine import UNetEngine

            self._fast = self._fast or UNetEngine(self.unet, self.cut, self._run_wrapped, self.watch)
            self.passes = self._fast

    @property
    def watch(self) -> "ModelWatch":
        """Sees when the U-Net changes, from the first call on."""
        if self._watch is None:
            from .watch import ModelWatch

            self._watch = ModelWatch(self.unet)
        return self._watch

    @property
    def mixes_views(self) -> bool:
        """Whether something that is not diffusers' own may look at the whole batch: then its views stay together."""
        return not self._native or self.watch.mixes_views

    def identify(self, inputs: dict[str, Any], view: View, keys: Sequence[Key]) -> list[str]:
        """What the feature of each view depends on besides its key; the cache starts anew if all of them changed.

        Where views attend to each other that is the cells of all, and which of those in its own cell a view is. Between
        two checks, with a scope, it is what it was for the first call of a like view.
        """
        assert self.cache is not None
        sample, context = inputs["sample"], inputs.get("encoder_hidden_states")
        call = describe(view.scope), view.off_key, sample.shape, sample.dtype
        is_first = self.check_every > 1 and view.scope is not None and not (view.numbers or self.mixes_views)
        if is_first and self._known[:1] == (call,):
            view.numbers |= self._known[2]
            return list(self._known[1])
        device = sample.device
        shapes = [each.shape[1:] for each in each_tensor([sample, context])]
        autocast = torch.is_autocast_enabled(device.type) and torch.get_autocast_dtype(device.type)
        weights = id(self.unet), self.watch.epoch, self.watch.writes
        left_out = (each for module, *_ in self._eager.patches for each in module.modules())
        if self.watch.guests and not self.watch.guests.isdisjoint(left_out):
            self.cache.tell_once("guests left out")
        self.cache.match((weights, sample.dtype, device, shapes, view.branches, autocast))
        found = self.cache.identify(view, self._conditions(inputs, view), self.watch.settings)
        if self.mixes_views and len(keys) > 1:
            cells = [repr(self.cache.store.locate(key, 0, "")) for key in keys]
            found = [digest(each, sorted(cells), cells[:row].count(cells[row])) for row, each in enumerate(found)]
        if is_first:
            self._known = call, found, dict(view.numbers)
        return found

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)

    def __reduce__(self) -> Any:
        return (getattr, (self.unet, "forward")) if self._native else (functools.partial, (self.__wrapped__,))
