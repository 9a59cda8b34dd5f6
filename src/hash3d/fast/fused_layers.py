"""Patch diffusers' layers with forwards that take fewer passes over memory on a GPU, while a CUDA graph is captured.

Each forward computes what the layer does; a layer's class and settings decide whether it gets one. Matmuls and
convolutions stay the libraries'; the elementwise work between them is fused: biases, the timestep's embedding,
activations and residuals are added by the kernel that reads the tensor next, and images stay channels last where
diffusers would copy them. That work is Triton's kernels on CUDA; elsewhere PyTorch computes the same, and is the
reference implementation.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from jaxtyping import Float
from torch import Tensor, nn

from hash3d.kernels import has_triton
from hash3d.unet.model import Patch, patched

Shifts = tuple[Tensor | None, Tensor | None]
"""What is added to the input first: one number a channel [C], and one a channel of each image [N, C]."""


def group_norm(norm: nn.GroupNorm, x: Tensor, *, silu: bool = False, shifts: Shifts = (None, None)) -> Tensor:
    """Normalise `x` [N, C, H, W] plus `shifts`, or [N, C, L], in groups (Wu and He 2018, eq. 1).

    `silu` applies SiLU to the result, which has the dtype of `x`. Where the kernels run, differentiable in `x` alone:
    the weights are those of a frozen model.
    """
    if x.ndim == 3:
        return group_norm(norm, x[..., None], silu=silu)[..., 0]
    arguments = norm.num_groups, norm.weight, norm.bias, norm.eps
    if has_kernels(x):
        result: Tensor = _Kernels.apply(x, *arguments, silu, shifts)  # type: ignore[no-untyped-call]
        return result
    for shift in shifts:
        x = x if shift is None else x + shift[..., None, None]
    y = F.group_norm(x, *arguments)
    return F.silu(y) if silu else y


def has_kernels(x: Tensor) -> bool:
    """Whether the kernels run for a tensor: on a CUDA device, with Triton installed."""
    return x.is_cuda and has_triton()


class _Kernels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, *arguments: Any) -> Tensor:
        from . import _triton_fused as kernels

        num_groups, weight, bias, eps, silu, shifts = arguments
        x = x.contiguous(memory_format=torch.channels_last)
        if not ctx.needs_input_grad[0]:
            y = kernels.group_norm_small(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
            if y is not None:
                return y
        y, statistics = kernels.group_norm(x, num_groups, weight, bias, eps, silu=silu, shifts=shifts)
        ctx.save_for_backward(x, statistics, weight)
        ctx.num_groups, ctx.silu = num_groups, silu
        return y

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        from . import _triton_fused as kernels

        x, statistics, weight = ctx.saved_tensors
        dy = grad_outputs[0].contiguous(memory_format=torch.channels_last)
        return kernels.group_norm_backward(x, dy, statistics, ctx.num_groups, weight, silu=ctx.silu), *[None] * 6


def add_bias(
    x: Float[Tensor, "N C H W"],
    bias: Float[Tensor, " C"] | None,
    residual: Float[Tensor, "N C H W"] | None = None,
) -> Float[Tensor, "N C H W"]:
    """Return x + residual + bias. Where the kernel runs, differentiable in `x` and `residual` alone."""
    if has_kernels(x):
        result: Tensor = _AddBias.apply(x, bias, residual)  # type: ignore[no-untyped-call]
        return result
    x = x if residual is None else x + residual
    return x if bias is None else x + bias[:, None, None]


def geglu(x: Float[Tensor, "*rows D"]) -> Float[Tensor, "*rows E"]:
    """Return a gelu(b) of rows [a, b] (Shazeer 2020, "GLU Variants Improve Transformer", GEGLU)."""
    if has_kernels(x) and not x.requires_grad and x.numel() < 2**31:
        from . import _triton_fused as kernels

        return kernels.geglu(x.contiguous())
    values, gate = x.chunk(2, dim=-1)
    return values * F.gelu(gate)


def layer_norm(norm: nn.LayerNorm, x: Float[Tensor, "*rows C"]) -> Float[Tensor, "*rows C"]:
    """Normalise rows (Ba et al. 2016, "Layer Normalization", eq. 4)."""
    if has_kernels(x) and not x.requires_grad:
        from . import _triton_fused as kernels

        return kernels.layer_norm(x.contiguous(), norm.weight, norm.bias, norm.eps)
    return F.layer_norm(x, norm.normalized_shape, norm.weight, norm.bias, norm.eps)


class _AddBias(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bias: Tensor | None, residual: Tensor | None) -> Tensor:
        from . import _triton_fused as kernels

        x = x.contiguous(memory_format=torch.channels_last)
        residual = None if residual is None else residual.contiguous(memory_format=torch.channels_last)
        return kernels.add_bias(x, residual, bias)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        needs_x, _, needs_residual = ctx.needs_input_grad
        return grad_outputs[0] if needs_x else None, None, grad_outputs[0] if needs_residual else None


WIDEST_HEAD = 256
"""Widest head for which PyTorch's fused attention is fast, forward and backward; wider ones are plain matmuls."""


@contextmanager
def fused_layers(model: nn.Module) -> Iterator[None]:
    """Run a model's layers by the fused forwards while the block is open: the same results up to rounding."""
    with patched(choose_patches(model)):
        yield


def choose_patches(model: nn.Module) -> list[Patch]:
    """Return a patch for each layer that has a fused forward and is not patched yet."""
    chosen = [patch for patch in map(_choose_patch, model.modules()) if patch is not None]
    chosen += [
        (module, "get_attention_scores", partial(_attention_scores, module))
        for module in model.modules()
        if _is_wide(module)
    ]
    return [item for item in chosen if item[1] not in item[0].__dict__]


def _choose_patch(module: nn.Module) -> Patch | None:
    """Return the patch of one layer, if it has one."""
    match module:
        case ResnetBlock2D() if _is_plain(module):
            return module, "forward", partial(run_residual_block, module)
        case Transformer2DModel() if hasattr(module, "_get_output_for_continuous_inputs"):
            return module, "_get_output_for_continuous_inputs", partial(_project_out, module)
        case Attention() if _is_wide(module):
            return module, "forward", partial(AttnProcessor(), module)
        case GEGLU():
            return module, "forward", lambda x: geglu(module.proj(x))
        case nn.Conv2d() if type(module) is nn.Conv2d and module.groups == 1 and module.padding_mode == "zeros":
            return module, "forward", partial(conv2d, module)
        case nn.LayerNorm(normalized_shape=(_,), bias=nn.Parameter()) if type(module) is nn.LayerNorm:
            return module, "forward", partial(layer_norm, module)
        case nn.GroupNorm(affine=True):
            return module, "forward", partial(group_norm, module)
    return None


def _is_plain(block: Any) -> bool:
    """Whether a residual block is what `run_residual_block` computes, as Stable Diffusion's are."""
    convolutions = [each for each in (block.conv1, block.conv2, block.conv_shortcut) if each is not None]
    return (
        block.time_embedding_norm == "default"
        and isinstance(block.nonlinearity, nn.SiLU)
        and block.output_scale_factor == 1.0
        and block.upsample is None
        and block.downsample is None
        and not block.skip_time_act
        and not (block.training and block.dropout.p > 0.0)
        and all(type(each) is nn.Conv2d and each.groups == 1 for each in convolutions)
    )


def _is_wide(module: Any) -> bool:
    """Whether a layer is attention by one head that is too wide for PyTorch's fused kernels."""
    return (
        isinstance(module, Attention)
        and module.heads == 1
        and module.to_q.out_features > WIDEST_HEAD
        and not module.upcast_attention
        and type(module.processor) is AttnProcessor2_0
    )


def _attention_scores(attention: Any, query: Tensor, key: Tensor, attention_mask: Tensor | None = None) -> Tensor:
    """Return softmax(scale q k') [N, rows, rows]; PyTorch sums it in float32, without copies in float32."""
    if attention_mask is not None:
        weights: Tensor = type(attention).get_attention_scores(attention, query, key, attention_mask)
        return weights
    return torch.bmm(query * attention.scale, key.transpose(1, 2)).softmax(dim=-1)


def _project_out(
    block: Any, hidden_states: Tensor, residual: Tensor, batch_size: int, height: int, width: int, inner_dim: int
) -> Tensor:
    """Project the rows [N, H W, C] at the end of a Transformer2DModel as a channels-last image, and add the residual.

    Its own forward copies the image to channels first.
    """
    if block.use_linear_projection:
        image = block.proj_out(hidden_states).reshape(batch_size, height, width, inner_dim).permute(0, 3, 1, 2)
    else:
        rows = hidden_states.reshape(batch_size, height, width, inner_dim)
        image = block.proj_out(rows.permute(0, 3, 1, 2))
    return add_bias(image, None, residual)


def run_residual_block(block: Any, input_tensor: Tensor, temb: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """Return skip(x) + conv(silu(norm(conv(silu(norm(x))) + embedding))), as diffusers' ResnetBlock2D.

    Args:
        block: the layer, without resampling or dropout.
        input_tensor: x [N, C, H, W].
        temb: the timestep's embedding [N, D].
    """
    conditional = block.time_emb_proj is not None and temb is not None
    embedding = block.time_emb_proj(F.silu(temb)) if conditional and temb is not None else None
    hidden = conv2d(block.conv1, group_norm(block.norm1, input_tensor, silu=True), bias=False)
    hidden = group_norm(block.norm2, hidden, silu=True, shifts=(block.conv1.bias, embedding))
    skip = input_tensor if block.conv_shortcut is None else conv2d(block.conv_shortcut, input_tensor)
    hidden = conv2d(block.conv2, hidden, bias=False)
    return add_bias(hidden, block.conv2.bias, skip)


def conv2d(layer: nn.Conv2d, x: Tensor, *, bias: bool = True) -> Tensor:
    """Apply a convolution to `x` [N, C, H, W], with or without its bias; a 1x1 one is a matmul of rows."""
    if not bias:
        return F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation)
    if (layer.kernel_size, layer.stride, layer.padding) == ((1, 1), (1, 1), (0, 0)):
        return F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias).permute(0, 3, 1, 2)
    return add_bias(conv2d(layer, x, bias=False), layer.bias)
