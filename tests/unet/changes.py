"""Ways in which a U-Net is changed between two calls: each doubles something, or exchanges what it does."""

import copy
import functools

import torch
import torch.nn.functional as F
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D


def deep(unet):
    return unet.mid_block.resnets[0]


def write_data(unet):
    deep(unet).conv1.weight.data.mul_(2.0)


def exchange_data(unet):
    deep(unet).conv1.weight.data = 2.0 * deep(unet).conv1.weight.data


def write_numpy(unet):
    deep(unet).conv1.weight.detach().numpy()[:] *= 2.0


def write_in_place(unet):
    with torch.no_grad():
        deep(unet).conv1.weight.mul_(2.0)


def put_layer(unet):
    """As libraries that exchange layers for quantized ones do."""
    deep(unet)._modules["conv1"] = copy.deepcopy(deep(unet).conv1)
    deep(unet).conv1.weight.data.mul_(2.0)


def put_layer_unseen(unet):
    deep(unet)._modules["conv1"] = copy.deepcopy(deep(unet).conv1)


def put_weight(unet):
    deep(unet).conv1._parameters["weight"] = torch.nn.Parameter(2.0 * deep(unet).conv1.weight, requires_grad=False)


def hook_after(unet):
    deep(unet).register_forward_hook(lambda module, inputs, output: 2.0 * output)


def hook_before(unet):
    unet.mid_block.register_forward_pre_hook(lambda module, inputs: (2.0 * inputs[0], *inputs[1:]))


def hook_everywhere(unet):
    return torch.nn.modules.module.register_module_forward_hook(lambda module, inputs, output: None)


def patch_forward(unet):
    inner = deep(unet).forward
    deep(unet).forward = lambda *args, **kwargs: 2.0 * inner(*args, **kwargs)


def exchange_class(unet):
    class Doubled(type(deep(unet))):
        def forward(self, *args, **kwargs):
            return 2.0 * super().forward(*args, **kwargs)

    deep(unet).__class__ = Doubled


def scale_output(unet):
    deep(unet).output_scale_factor = 3.0


def pad_in_circles(unet):
    deep(unet).conv1.padding_mode = "circular"


def train_a_block(unet):
    unet.mid_block.train()


def register_config(unet):
    unet.register_to_config(center_input_sample=True)


class Undo:
    """Gives an object its attribute back."""

    def __init__(self, owner, name, change):
        self.owner, self.name, self.before = owner, name, getattr(owner, name)
        setattr(owner, name, change)

    def remove(self):
        setattr(self.owner, self.name, self.before)


def patch_class(unet):
    """By a function that passes for the one that it wraps."""
    inner = ResnetBlock2D.forward

    @functools.wraps(inner)
    def forward(self, *args, **kwargs):
        return 2.0 * inner(self, *args, **kwargs)

    return Undo(ResnetBlock2D, "forward", forward)


def patch_processor_class(unet):
    inner = AttnProcessor2_0.__call__

    @functools.wraps(inner)
    def call(self, *args, **kwargs):
        return 2.0 * inner(self, *args, **kwargs)

    return Undo(AttnProcessor2_0, "__call__", call)


def exchange_attention(unet):
    """As libraries of faster kernels do."""
    inner = F.scaled_dot_product_attention
    return Undo(F, "scaled_dot_product_attention", lambda *args, **kwargs: 2.0 * inner(*args, **kwargs))


CHANGES = [
    write_data, exchange_data, write_numpy, write_in_place, put_layer, put_weight, hook_after, hook_before,
    hook_everywhere, patch_forward, exchange_class, scale_output, pad_in_circles, train_a_block, register_config,
    patch_class, patch_processor_class, exchange_attention,
]  # fmt: skip
