"""The passes of a U-Net and of an autoencoder on a GPU: CUDA graphs, without Python between the kernels.

A guidance pair of Stable Diffusion takes 31 ms in eager PyTorch on an H200, of which 2 are arithmetic: the rest are
launches. Two callables, the full and the shallow pass, are each captured once for each batch size and replayed.
At 512 pixels the encoder of Stable Diffusion, forward and backward, costs as much as such a pair, and no cache of U-Net
features makes it cheaper. In a CUDA graph it runs channels last with `fused_layers`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.cache.messages import tell
from hash3d.tensors import to_device
from hash3d.unet import Engine as Engine
from hash3d.unet import check_engine
from hash3d.unet.partial_unet import PartialUNet
from hash3d.unet.watch import ModelWatch

from .cuda_graph import Inputs, RecordedCall, RecordedGradient, form, inside_recording, recorded_or_none
from .fused_layers import fused_layers

Kind = Literal["plain", "full", "shallow"]
"""Of a pass: without the feature, with it, from it."""

MAX_RECORDINGS = 64
"""Batch sizes and forms of arguments that one U-Net keeps CUDA graphs of; what comes after runs eagerly."""


def records(engine: Engine, device: torch.device) -> bool:
    """Whether an engine makes CUDA graphs on a device. Raises `ValueError` if it is unknown, or cannot run there."""
    check_engine(engine, device)
    return engine != "eager" and device.type == "cuda"


class UNetEngine(PartialUNet):
    """The passes of one U-Net around one cut, as CUDA graphs; with gradients, or on a CPU, as PyTorch runs them.

    Graphs hold the addresses of the weights. Layers that were exchanged, and adapters that were switched, are seen.

    Args:
        unet: the model.
        cut: as in `PartialUNet`.
        forward: runs the whole U-Net; None is the U-Net itself.
        watch: sees when the model changes; None makes one.
    """

    def __init__(
        self,
        unet: nn.Module,
        cut: int,
        forward: Callable[..., Any] | None = None,
        watch: ModelWatch | None = None,
    ) -> None:
        super().__init__(unet, cut, forward)
        self.watch, self._looks = watch or ModelWatch(unet), watch is None
        self._recorded: dict[Any, RecordedCall | None] = {}
        self._pool: Any = None

    def fill(self, rows: list[int], count: int) -> list[int]:
        """The views to run for the views `rows` of a batch of `count`, those first.

        The last one is repeated up to a power of two or the whole batch, so that a few graphs serve every mixture.
        """
        size = min(count, 1 << (len(rows) - 1).bit_length())
        return rows + rows[-1:] * (size - len(rows))

    def plain_pass(self, *args: Any, **kwargs: Any) -> Any:
        """The U-Net's output: the prediction [N, C, h, w] in memory of its own, in a tuple."""
        found = self._replay("plain", self._by_name(args, kwargs))
        return super().plain_pass(*args, **kwargs) if found is None else found[:1]

    def full_pass(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """The U-Net's output, and the feature entering the cut; the feature is overwritten by the next pass."""
        found = self._replay("full", self._by_name(args, kwargs))
        return super().full_pass(*args, **kwargs) if found is None else (found[:1], found[1])

    def shallow_pass(self, feature: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The U-Net's output from a feature and the shallow layers alone."""
        found = self._replay("shallow", {"feature": feature, **self._by_name(args, kwargs)})
        return super().shallow_pass(feature, *args, **kwargs) if found is None else found[:1]

    def _replay(self, kind: Kind, inputs: Inputs) -> tuple[Tensor, ...] | None:
        """The prediction and in a full pass the feature, from a graph; None where there can be none."""
        device = inputs["sample"].device
        if torch.is_grad_enabled() or not records("auto", device) or inside_recording():
            return None
        if not isinstance(timestep := inputs["timestep"], Tensor):  # A replay reads new ones.
            timestep = torch.full((1,), timestep, device=device, dtype=torch.long)
        inputs = {**inputs, "timestep": to_device(timestep, device)}
        key = kind, form(inputs), self._model_state()
        if key not in self._recorded:
            self.unet.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            self.watch.look(at_all=True)  # The weights may have moved, and a slice may hold none that has.
            key = kind, form(inputs), self._model_state()
            self._recorded[key] = self._record(kind, inputs)
        recorded = self._recorded[key]
        if recorded is None:
            return None
        prediction, *feature = recorded(inputs)
        return prediction.clone(), *feature

    def _run(self, kind: Kind, **inputs: Any) -> tuple[Tensor, ...]:
        """What a graph holds."""
        feature: list[Tensor] = []

        def forward(**given: Any) -> Any:
            output = getattr(super(UNetEngine, self), f"{kind}_pass")(**given)
            if kind == "full":
                output, entering = output
                feature.append(entering)
            return output

        return self.layout.call(forward, inputs), *feature

    def _by_name(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Inputs:
        """The arguments of a U-Net call by name, without those that are None."""
        inputs = self.layout.bind(args, kwargs)
        return {name: value for name, value in inputs.items() if value is not None and name != "return_dict"}

    def _record(self, kind: Kind, inputs: Inputs) -> RecordedCall | None:
        """A graph of a pass, or None with a warning where there can be none."""
        if len(self._recorded) >= MAX_RECORDINGS:
            tell(f"The U-Net was called in over {MAX_RECORDINGS} forms. New ones run eagerly.")
            return None
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        images = {
            name: inputs[name].contiguous(memory_format=torch.channels_last)
            for name in ("sample", "feature")
            if name in inputs
        }

        def record() -> RecordedCall:
            with fused_layers(self.unet), inputs["sample"].device:  # LDM's frequencies are made on the default device.
                return RecordedCall(partial(self._run, kind), inputs | images, self._pool)

        return recorded_or_none("A U-Net pass", record)

    def _model_state(self) -> tuple[Any, ...]:
        """What a graph depends on besides the arguments: layers, adapters that are on, and where weights lie."""
        if self._looks:
            self.watch.look()
        return self.watch.epoch, self.watch.settings, self.watch.addresses, torch.is_autocast_enabled("cuda")


MAX_GRAPHS = 8
"""Most CUDA graphs that are kept, one for each shape of images or latents; other shapes run eagerly."""


class AutoencoderEngine:
    """The encoder and decoder of one autoencoder.

    A CUDA graph holds the addresses of the weights: build a new engine after changing the autoencoder.
    """

    def __init__(self, vae: AutoencoderKL, engine: Engine = "auto") -> None:
        self.vae: Any = vae
        self.engine = engine
        self._recorded: dict[Any, Callable[[Tensor], Tensor] | None] = {}

    def encode(self, images: Float[Tensor, "B 3 S S"]) -> Float[Tensor, "B M h w"]:
        """Return mean and log variance of the posterior of images in [-1, 1], differentiable in the images."""

        def moments(x: Tensor) -> Tensor:
            hidden = self.vae.encoder(x)
            result: Tensor = hidden if self.vae.quant_conv is None else self.vae.quant_conv(hidden)
            return result

        return self._run(moments, images)

    def decode(self, latents: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "B 3 S S"]:
        """Return images in about [-1, 1] of latents without scaling factor."""

        def images(z: Tensor) -> Tensor:
            result: Tensor = self.vae.decode(z, return_dict=False)[0]
            return result

        return self._run(images, latents)

    def _run(self, function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        differentiable = torch.is_grad_enabled() and x.requires_grad
        if records(self.engine, x.device) and not inside_recording():
            form = function.__name__, differentiable, tuple(x.shape), x.dtype
            key = form, self._address()
            if key not in self._recorded and len(self._recorded) < MAX_GRAPHS:
                self.vae.to(memory_format=torch.channels_last)
                key = form, self._address()  # The weights may have moved.
                self._recorded[key] = recorded_or_none(
                    "An autoencoder", lambda: self._record(function, x, differentiable)
                )
            if (recorded := self._recorded.get(key)) is not None:
                return recorded(x)
        return function(x)

    def _address(self) -> int:
        """Return the address of the weights."""
        return int(next(self.vae.parameters()).data_ptr())

    def _record(self, function: Callable[[Tensor], Tensor], x: Tensor, differentiable: bool) -> Callable[..., Tensor]:
        example = x.detach().contiguous(memory_format=torch.channels_last)
        with fused_layers(self.vae):
            if differentiable:
                return RecordedGradient(function, example)
            recorded = RecordedCall(lambda x: (function(x),), {"x": example})
        return lambda x: recorded({"x": x})[0].clone()
