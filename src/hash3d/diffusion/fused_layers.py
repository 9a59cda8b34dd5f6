"""Forwards of diffusers' layers that take fewer passes over memory on a GPU, for the time of a recording.

Each forward here is the layer's own mathematics; which layers get one is decided by their class and settings, and any
other layer keeps its own. Products stay the libraries'; what is saved lies between them: biases, the timestep's
embedding, activations and residuals are added by the kernel that reads the numbers next, and pictures stay channels
last where diffusers would copy them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from .elementwise import add_biased, gated, layer_norm
from .group_norm import group_norm
from .stand_ins import StandIn, replaced

WIDEST_HEAD = 256
"""Numbers a head up to which PyTorch's fused attention is fast, there and back; wider ones are plain products."""


@contextmanager
def fused_layers(model: nn.Module, *, fixed: nn.Module | None = None) -> Iterator[None]:
    """Run a model's layers by the forwards below while the block is open: the same numbers up to rounding.

    In its part `fixed` no gradient flows through the means and variances of group normalisations.
    """
    with replaced(choose_stand_ins(model, fixed=fixed)):
        yield


@contextmanager
def fixed_norms(model: nn.Module) -> Iterator[None]:
    """Let no gradient flow through means and variances of group normalisations, and change nothing else."""
    norms = [module for module in model.modules() if isinstance(module, nn.GroupNorm)]
    with replaced([(norm, "forward", partial(_normalised, norm, fixed=True)) for norm in norms]):
        yield


def choose_stand_ins(model: nn.Module, *, fixed: nn.Module | None = None) -> list[StandIn]:
    """What stands in for each layer that has a faster forward, and has not been given one already."""
    inside = set() if fixed is None else set(fixed.modules())
    chosen = [stand_in for module in model.modules() if (stand_in := _stand_in(module, module in inside)) is not None]
    return [item for item in chosen if item[1] not in item[0].__dict__]


def _stand_in(module: nn.Module, fixed: bool) -> StandIn | None:
    """The faster forward of one layer, if it has one."""
    match module:
        case ResnetBlock2D() if _is_plain(module):
            return module, "forward", partial(_resnet, module, fixed)
        case Transformer2DModel() if hasattr(module, "_get_output_for_continuous_inputs"):
            return module, "_get_output_for_continuous_inputs", partial(_from_rows, module)
        case Attention(heads=1) if (
            module.to_q.out_features > WIDEST_HEAD and type(module.processor) is AttnProcessor2_0
        ):
            return module, "forward", partial(AttnProcessor(), module)
        case GEGLU():
            return module, "forward", lambda x: gated(module.proj(x))
        case nn.Conv2d() if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            return module, "forward", partial(_convolution, module)
        case nn.LayerNorm(elementwise_affine=True, bias=Tensor()):
            return module, "forward", lambda x: layer_norm(x, module.weight, module.bias, module.eps)
        case nn.GroupNorm(affine=True):
            return module, "forward", partial(_normalised, module, fixed=fixed)
    return None


def _is_plain(block: Any) -> bool:
    """Whether a residual block is of the kind that `_resnet` computes: Stable Diffusion's and its autoencoder's."""
    convolutions = [each for each in (block.conv1, block.conv2, block.conv_shortcut) if each is not None]
    return (
        block.time_embedding_norm == "default"
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.upsample is None
        and block.downsample is None
        and not block.skip_time_act
        and not (block.training and block.dropout.p > 0.0)
        and all(type(each) is nn.Conv2d and each.groups == 1 for each in convolutions)
    )


def _resnet(block: Any, fixed: bool, input_tensor: Tensor, temb: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """(skip(x) + conv(silu(norm(conv(silu(norm(x))) + temb)))) / scale, of ResnetBlock2D."""
    hidden = _normalised(block.norm1, input_tensor, silu=True, fixed=fixed)
    hidden = _product(block.conv1, hidden)
    embedding = None
    if block.time_emb_proj is not None and temb is not None:
        embedding = block.time_emb_proj(F.silu(temb))
    hidden = _normalised(block.norm2, hidden, silu=True, shifts=(block.conv1.bias, embedding), fixed=fixed)
    hidden = _product(block.conv2, hidden)
    skip = input_tensor if block.conv_shortcut is None else _convolution(block.conv_shortcut, input_tensor)
    return add_biased(hidden, block.conv2.bias, skip, 1.0 / block.output_scale_factor)


def _from_rows(
    block: Any, hidden_states: Tensor, residual: Tensor, batch_size: int, height: int, width: int, inner_dim: int
) -> Tensor:
    """The end of Transformer2DModel: rows [N, H W, C] projected, as a picture, plus the block's input.

    Its own forward copies the picture into planes; rows are a channels-last picture already.
    """
    if block.use_linear_projection:
        picture = block.proj_out(hidden_states).reshape(batch_size, height, width, inner_dim).permute(0, 3, 1, 2)
    else:
        rows = hidden_states.reshape(batch_size, height, width, inner_dim)
        picture = block.proj_out(rows.permute(0, 3, 1, 2))
    return add_biased(picture, None, residual)


def _normalised(
    norm: nn.GroupNorm, x: Tensor, *, silu: bool = False, shifts: Any = (None, None), fixed: bool = False
) -> Tensor:
    """A picture [N, C, H, W], or [N, C, L], normalised."""
    picture = x[..., None] if x.ndim == 3 else x
    result = group_norm(
        picture, norm.num_groups, norm.weight, norm.bias, norm.eps, silu=silu, shifts=shifts, fixed=fixed
    )
    return result[..., 0] if x.ndim == 3 else result


def _convolution(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution with its bias; one of single pixels is a product of rows with theirs."""
    if layer.kernel_size == (1, 1) and layer.stride == (1, 1) and layer.padding == (0, 0):
        return F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)
    return add_biased(_product(layer, x), layer.bias)


def _product(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """A convolution without its bias."""
    return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation)
