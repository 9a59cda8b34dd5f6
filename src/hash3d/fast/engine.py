"""How a U-Net's passes run: as PyTorch runs them, or on a GPU as recordings without Python between the kernels.

A guidance pair of Stable Diffusion takes 31 ms in eager PyTorch on an H200, of which 2 are arithmetic: the rest are
launches. Two callables, the full and the shallow pass, are each recorded once for each batch size and replayed.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from hash3d.transfer import to_device
from hash3d.unet.partial_unet import PartialUNet

from .cuda_graph import Inputs, RecordedCall, form, recorded_or_none
from .fused_layers import fused_layers

Engine = Literal["auto", "eager", "graph"]
"""auto: graph on CUDA, else eager. eager: PyTorch as it is. graph: CUDA graphs of channels-last passes with fused
layers."""

Kind = Literal["plain", "full", "shallow"]
"""Of a pass: without the feature, with it, from it."""

MAX_RECORDINGS = 64
"""Batch sizes and forms of arguments that one U-Net keeps recordings of; what comes after runs eagerly."""


def records(engine: Engine, device: torch.device) -> bool:
    """Whether an engine makes recordings on a device. Raises `ValueError` if it is unknown, or cannot run there."""
    if engine not in get_args(Engine):
        raise ValueError(f"Expected the engine to be one of {', '.join(get_args(Engine))}, but got {engine!r}.")
    if engine == "graph" and device.type != "cuda":
        raise ValueError(f"Expected a CUDA device for the engine {engine!r}, but got {device}. Choose 'auto'.")
    return engine != "eager" and device.type == "cuda"


class UNetEngine:
    """The passes of one U-Net.

    Recordings hold the addresses of the weights: after changing the model (attention processors, fused adapters),
    remove the cache and apply it again. Adapters that are switched on or off are seen.

    Args:
        partial: the U-Net around its cut.
        engine: how passes run; a pass with gradients runs eagerly.
    """

    def __init__(self, partial: PartialUNet, engine: Engine) -> None:
        self.partial, self.engine = partial, engine
        self._recorded: dict[Any, RecordedCall | None] = {}
        self._pool: Any = None

    @property
    def unet(self) -> UNet2DConditionModel:
        """The model."""
        return self.partial.unet

    def filled(self, rows: list[int], count: int) -> list[int]:
        """The views to run for the views `rows` of a batch of `count`, those first.

        Where passes are recorded, the last one is repeated up to a power of two or the whole batch, so that a few
        recordings serve every mixture.
        """
        if not records(self.engine, self.unet.conv_in.weight.device):
            return rows
        size = min(count, 1 << (len(rows) - 1).bit_length())
        return rows + rows[-1:] * (size - len(rows))

    def plain_pass(self, inputs: Inputs) -> Tensor:
        """The prediction [N, C, h, w]."""
        return self._run("plain", inputs)[0]

    def full_pass(self, inputs: Inputs) -> tuple[Tensor, Tensor]:
        """The prediction, and the feature entering the cut; the feature is overwritten by the next pass."""
        prediction, feature = self._run("full", inputs)
        return prediction, feature

    def shallow_pass(self, feature: Tensor, inputs: Inputs) -> Tensor:
        """The prediction from a feature and the shallow layers alone."""
        return self._run("shallow", {"feature": feature, **inputs})[0]

    def _run(self, kind: Kind, inputs: Inputs) -> tuple[Tensor, ...]:
        """The prediction, in memory of its own, and in a full pass the feature."""
        device = inputs["sample"].device
        if torch.is_grad_enabled() or not records(self.engine, device) or torch.cuda.is_current_stream_capturing():
            return self._eager(kind, inputs)
        inputs = {**inputs, "timestep": _timesteps(inputs["timestep"], inputs["sample"])}
        key = kind, form(inputs), self._model_state()
        if key not in self._recorded:
            self.partial.unet.to(memory_format=torch.channels_last)
            key = kind, form(inputs), self._model_state()  # The weights may have moved.
            self._recorded[key] = self._record(kind, inputs)
        recorded = self._recorded[key]
        if recorded is None:
            return self._eager(kind, inputs)
        prediction, *feature = recorded(inputs)
        return prediction.clone(), *feature

    def _eager(self, kind: Kind, inputs: Inputs) -> tuple[Tensor, ...]:
        with self._pass(kind) as function:
            return function(**inputs)

    @contextmanager
    def _pass(self, kind: Kind) -> Iterator[Callable[..., tuple[Tensor, ...]]]:
        """The pass of a kind as a function of its arguments by name, while the block is open."""
        unet: Any = self.unet
        if kind == "plain":
            yield lambda **inputs: unet(**inputs, return_dict=False)
        elif kind == "full":
            with self.partial.capturing() as captured:
                yield lambda **inputs: (*unet(**inputs, return_dict=False), captured.pop())
        else:
            with self.partial.reusing() as features:

                def shallow(feature: Tensor, **inputs: Any) -> tuple[Tensor, ...]:
                    features.append(feature)
                    return unet(**inputs, return_dict=False)

                yield shallow

    def _record(self, kind: Kind, inputs: Inputs) -> RecordedCall | None:
        """A recording of a pass, or None with a warning where there can be none."""
        if len(self._recorded) >= MAX_RECORDINGS:
            warnings.warn(f"The U-Net was called in over {MAX_RECORDINGS} forms. New ones run eagerly.", stacklevel=4)
            return None
        unet: Any = self.unet
        self._pool = self._pool or torch.cuda.graph_pool_handle()
        pictures = {
            name: inputs[name].contiguous(memory_format=torch.channels_last)
            for name in ("sample", "feature")
            if name in inputs
        }

        def record() -> RecordedCall:
            with self._pass(kind) as function, fused_layers(unet):
                return RecordedCall(function, inputs | pictures, self._pool)

        return recorded_or_none("A U-Net pass", record)

    def _model_state(self) -> tuple[Any, ...]:
        """What a recording depends on besides the arguments: which adapters are on, and where weights lie."""
        unet: Any = self.unet
        return adapter_state(unet), unet.conv_in.weight.data_ptr(), unet.conv_out.weight.data_ptr(), unet.training


def adapter_state(unet: Any) -> tuple[Any, ...]:
    """Which of a U-Net's adapters (LoRA through peft) are on, and how strong; () without adapters."""
    if not getattr(unet, "_hf_peft_config_loaded", False):
        return ()
    for module in unet.modules():
        if module is not unet and hasattr(module, "active_adapters") and hasattr(module, "disable_adapters"):
            scaling = getattr(module, "scaling", {})
            return tuple(module.active_adapters), module.disable_adapters, tuple(sorted(scaling.items()))
    return ()


def _timesteps(timestep: Any, sample: Tensor) -> Tensor:
    """Timesteps as a tensor on the device of the sample, so that a replay reads new ones."""
    if isinstance(timestep, Tensor):
        return to_device(timestep, sample.device)
    return torch.full((1,), timestep, device=sample.device, dtype=torch.long)
