"""Residual blocks of Stable Diffusion and its autoencoder in few passes over memory."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .convolutions import conv2d
from .elementwise import add_bias
from .group_norm import group_norm


def run_residual_block(block: Any, input_tensor: Tensor, temb: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    """Return (skip(x) + conv(silu(norm(conv(silu(norm(x))) + embedding)))) / scale, as diffusers' ResnetBlock2D.

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
    return add_bias(hidden, block.conv2.bias, skip, 1.0 / block.output_scale_factor)
