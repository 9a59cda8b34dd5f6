"""What a step's U-Net and encoder must compute and read, and what a shallow pass takes of a full one."""

import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.unet.partial_unet import PartialUNet

from .rates import Rates, seconds_of


@dataclass
class SeenInputs:
    """What a step handed to a diffusion model."""

    unet: dict[str, Any] = field(default_factory=dict)
    """The arguments of the last call."""
    pictures: list[tuple[Tensor, bool]] = field(default_factory=list)
    """What the encoder got at each call, [B, 3, S, S], and whether a gradient was to flow back to it."""


@contextmanager
def seeing(prior: LatentPrior) -> Iterator[SeenInputs]:
    """Note the inputs of the U-Net and of the encoder in this block."""
    seen = SeenInputs()

    def note_unet(_: nn.Module, __: tuple[Any, ...], given: dict[str, Any]) -> None:
        seen.unet = {name: value for name, value in given.items() if name != "return_dict"}

    def note_encoder(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        seen.pictures.append((given[0].detach(), torch.is_grad_enabled() and given[0].requires_grad))

    handles = [
        prior.unet.register_forward_pre_hook(note_unet, with_kwargs=True),
        prior.vae.encoder.register_forward_pre_hook(note_encoder),
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a part of a step must do, at the least."""

    operations: float
    """Floating-point operations of matmuls, attention and convolutions."""
    bytes: float
    """Weights read once, inputs read once, outputs written once: layers in between may stay on the chip."""

    def seconds(self, rates: Rates) -> float:
        """At the machine's rates, reading while computing."""
        return max(self.operations / rates.operations, self.bytes / rates.bytes)


@torch.no_grad()
def pass_work(unet: Any, inputs: dict[str, Any], cut: int) -> tuple[Work, Work]:
    """A full pass and a shallow one from `cut`, for the views of `inputs`."""
    partial = PartialUNet(unet, cut)
    _, feature = partial.full_pass(**inputs)
    given = sum(value.nbytes for value in inputs.values() if isinstance(value, Tensor)) + inputs["sample"].nbytes
    full = _counted(unet, lambda: partial.full_pass(**inputs))
    shallow = _counted(unet, lambda: partial.shallow_pass(feature, **inputs))
    return (
        Work(operations=full[0], bytes=full[1] + given),
        Work(operations=shallow[0], bytes=shallow[1] + given + feature.nbytes),
    )


def encoder_work(prior: LatentPrior, seen: SeenInputs) -> Work:
    """The encoder's forward passes, with the gradient on the pictures where there was one."""
    done = [_encoding_work(prior, pictures, differentiable) for pictures, differentiable in seen.pictures]
    return Work(operations=sum(work.operations for work in done), bytes=sum(work.bytes for work in done))


def _encoding_work(prior: LatentPrior, pictures: Tensor, differentiable: bool) -> Work:
    """Count one call of the exact encoder."""
    given = pictures.clone().requires_grad_(differentiable)

    def encode() -> None:
        with torch.set_grad_enabled(differentiable):
            latents = prior.vae.encode(given).latent_dist.mode()
        if differentiable:
            latents.float().sum().backward()

    operations, weights = _counted(prior.vae, encode)
    return Work(operations=operations, bytes=(2 if differentiable else 1) * (weights + given.nbytes))


def _counted(module: nn.Module, function: Any) -> tuple[float, float]:
    """Operations of a call, and bytes of the weights of the layers that ran in it."""
    ran: dict[int, float] = {}

    def note(layer: nn.Module, *_: Any) -> None:
        for weights in layer.parameters(recurse=False):
            ran[weights.data_ptr()] = weights.nbytes

    handles = [layer.register_forward_hook(note) for layer in module.modules()]
    try:
        # The kernels of fused attention are not all counted; its products are.
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            function()
    finally:
        for handle in handles:
            handle.remove()
    return float(counter.get_total_flops()), sum(ran.values())


@torch.no_grad()
def pass_seconds(
    unet: Any, inputs: dict[str, Any], cut: int, device: torch.device, *, repeats: int
) -> tuple[float, float]:
    """Medians of an eager full pass and of an eager shallow one."""
    partial = PartialUNet(unet, cut)
    _, feature = partial.full_pass(**inputs)
    full, shallow = list[float](), list[float]()
    for repeat in range(repeats):
        warm_up = 2 if repeat == 0 else 0
        full += seconds_of(lambda: partial.full_pass(**inputs), device, 1, warm_up=warm_up)
        shallow += seconds_of(lambda: partial.shallow_pass(feature, **inputs), device, 1, warm_up=warm_up)
    return statistics.median(full), statistics.median(shallow)
