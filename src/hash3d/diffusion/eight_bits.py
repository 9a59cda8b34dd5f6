"""Convolutions whose gradient in the picture multiplies numbers of eight bits; their results stay exact.

A floating-point number of eight bits (Micikevicius et al. 2022, "FP8 Formats for Deep Learning", e4m3) has four bits of
exponent and three of mantissa. Gradient and weights are each brought into its range by one power of two, which rounds
nothing, so that rounding is relative to each number but for the smallest: those below 2^-15 of the largest.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.resnet import ResnetBlock2D
from jaxtyping import Float
from torch import Tensor, nn

from .elementwise import add_biased
from .stand_ins import replaced

DTYPE = torch.float8_e4m3fn
LARGEST = 448.0
"""The largest number."""


def scale_for(bound: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The largest power of two that brings numbers of absolute value up to `bound` into the range."""
    return torch.exp2(torch.floor(torch.log2(LARGEST / bound.clamp_min(1e-30))))


def rounded(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Numbers rounded to eight bits, in their own dtype."""
    scale = scale_for(x.abs().amax().float())
    return ((x * scale).to(DTYPE).float() / scale).to(x.dtype)


def convolution(x: Float[Tensor, "N C H W"], weight: Float[Tensor, "M C 3 3"]) -> Float[Tensor, "N M H W"]:
    """A convolution of stride and border 1; its gradient in `x` is that for a rounded gradient and rounded weights.

    Differentiable in `x` alone.
    """
    result: Tensor = _Convolution.apply(x, weight)  # type: ignore[no-untyped-call]
    return result


@contextmanager
def eight_bit_gradients(model: nn.Module) -> Iterator[None]:
    """Let the gradient of a model's residual blocks multiply numbers of eight bits, and change nothing else."""
    with replaced([(layer, "forward", partial(_with_bias, layer)) for layer in residual_layers(model)]):
        yield


def residual_layers(model: nn.Module) -> list[nn.Conv2d]:
    """The 3 x 3 convolutions of a model's residual blocks."""
    return [
        layer
        for block in model.modules()
        if isinstance(block, ResnetBlock2D)
        for layer in (block.conv1, block.conv2)
        if isinstance(layer, nn.Conv2d)
    ]


@cache
def multiplies_eight_bits(device: torch.device) -> bool:
    """Whether a device multiplies numbers of eight bits faster than others, and Triton can make it do so."""
    return (
        device.type == "cuda"
        and torch.cuda.get_device_capability(device)[0] == 9
        and find_spec("triton") is not None
        and find_spec("triton.tools.tensor_descriptor") is not None
    )


def _with_bias(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return add_biased(convolution(x, layer.weight), layer.bias)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(weight)
        return F.conv2d(x, weight, padding=1)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        (weight,) = ctx.saved_tensors
        return F.conv_transpose2d(rounded(grad_outputs[0]), rounded(weight), padding=1), None
