"""The partial U-Net: capture the deep feature in a full pass, and run only the shallow layers from it.

Supplement of Hash3D, section A: with l up layers U_1 .. U_l (each consumes one skip connection), the feature i is the
tensor entering U_{i+1}, which consumes skip s = l - 1 - i. On reuse only the down layers up to s and the last s + 1 up
layers run (eq. 10). For Stable Diffusion and Zero123 l is 12; here it is counted in the module.

No forward is copied. The U-Net's own forward runs in both passes; for the time of one shallow pass the layers that are
not needed are patched, so every detail of the caller's diffusers version stays as it is.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from .patches import patched

Forward = tuple[nn.Module, Callable[..., Any]]
"""A module, and what is called in place of its forward."""


class PartialUNet:
    """The layers of one `UNet2DConditionModel` around one cut.

    Args:
        unet: any `UNet2DConditionModel` whose down layers each make one skip connection.
        cut: the supplement's index i, 0 <= i < `num_cuts`; negative counts from the end, as in a list.
    """

    def __init__(self, unet: UNet2DConditionModel, cut: int) -> None:
        self.unet: Any = unet
        down_layers = _down_layers(unet)
        up_layers = [(block, index) for block in self.unet.up_blocks for index in range(len(block.resnets))]
        if len(down_layers) != len(up_layers):
            raise ValueError(
                f"Expected a U-Net with one up layer for each skip connection, but {type(unet).__name__} has "
                f"{len(up_layers)} up layers and {len(down_layers)} skip connections."
            )
        self.num_cuts = len(up_layers)
        if not -self.num_cuts <= cut < self.num_cuts:
            raise ValueError(
                f"Expected the cut to be {-self.num_cuts} to {self.num_cuts - 1} for this U-Net, but got {cut}."
            )
        self.cut = cut % self.num_cuts
        self.skip = self.num_cuts - 1 - self.cut
        self._skip_channels = int(down_layers[self.skip][1])
        block, index = up_layers[self.cut]
        self._entry: nn.Module = block.resnets[index]
        chosen = self._choose_patches(down_layers, block, index)
        self._patches = [(module, "forward", patch) for module, patch in chosen]

    def full_pass(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """The U-Net's output, and the feature [N, C, h, w] entering up layer `cut` + 1."""
        with self.capturing() as captured:
            return self.unet(*args, **kwargs), captured.pop()

    def shallow_pass(self, feature: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The U-Net's output from a deep feature [N, C, h, w] and the shallow layers alone.

        With the feature of the same input the output equals the full pass's, bit for bit.
        """
        with self.reusing() as features:
            features.append(feature)
            return self.unet(*args, **kwargs)

    @contextmanager
    def capturing(self) -> Iterator[list[Tensor]]:
        """While the block is open, each call of the U-Net appends its feature to the list."""
        captured: list[Tensor] = []

        def capture(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            captured.append(inputs[0][:, : self._feature_channels(inputs[0])])

        handle = self._entry.register_forward_pre_hook(capture)
        try:
            yield captured
        finally:
            handle.remove()

    @contextmanager
    def reusing(self) -> Iterator[list[Tensor]]:
        """While the block is open, each call of the U-Net is a shallow one, which takes its feature out of the list."""
        features: list[Tensor] = []

        def inject(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            skip = inputs[0][:, self._feature_channels(inputs[0]) :]
            return (torch.cat([features.pop(), skip], dim=1), *inputs[1:])

        handle = self._entry.register_forward_pre_hook(inject)
        try:
            with patched(self._patches):
                yield features
        finally:
            handle.remove()

    def _feature_channels(self, concatenated: Tensor) -> int:
        """Channels of the feature in the tensor [feature, skip] that enters the up layer."""
        return concatenated.shape[1] - self._skip_channels

    def _choose_patches(
        self, down_layers: list[tuple[nn.Module, int]], entry_block: nn.Module, entry_index: int
    ) -> list[Forward]:
        """The modules that a shallow pass does without, each with its patch."""
        kept = {id(module) for module, _ in down_layers[: self.skip + 1]}
        patches: list[Forward] = []
        for block in self.unet.down_blocks:
            patches += _down_block_patches(block, kept)
        if self.unet.mid_block is not None:
            patches.append((self.unet.mid_block, _first_argument))
        for block in self.unet.up_blocks:
            if block is entry_block:
                patches += _layer_patches(block, range(entry_index))
                break
            patches.append((block, _first_argument))
        return patches


def _down_layers(unet: Any) -> list[tuple[nn.Module, int]]:
    """The module that makes each skip connection, with the skip's channels, in order s = 0, 1, ..."""
    layers: list[tuple[nn.Module, int]] = [(unet.conv_in, unet.conv_in.out_channels)]
    for block in unet.down_blocks:
        layers += [(resnet, resnet.out_channels) for resnet in block.resnets]
        layers += [(downsampler, layers[-1][1]) for downsampler in block.downsamplers or ()]
    return layers


def _down_block_patches(block: Any, kept: set[int]) -> list[Forward]:
    """A block without any needed layer is passed over whole; in the others, the layers behind the cut are."""
    modules = [*block.resnets, *(block.downsamplers or ())]
    if not any(id(module) in kept for module in modules):
        return [(block, _skipped_down_block(len(modules)))]
    patches = _layer_patches(block, [n for n, resnet in enumerate(block.resnets) if id(resnet) not in kept])
    return patches + [(module, _first_argument) for module in block.downsamplers or () if id(module) not in kept]


def _layer_patches(block: Any, indices: Any) -> list[Forward]:
    """Patches for the resnets `indices` of a block and the attentions behind them."""
    attentions = getattr(block, "attentions", None)
    patches: list[Forward] = []
    for index in indices:
        patches.append((block.resnets[index], _first_argument))
        if attentions is not None:
            attention = attentions[index]
            in_tuple = isinstance(attention, Transformer2DModel)
            patches.append((attention, _first_argument_in_tuple if in_tuple else _first_argument))
    return patches


def _first_argument(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _first_argument_in_tuple(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor]:
    return (hidden_states,)


def _skipped_down_block(num_layers: int) -> Callable[..., Any]:
    def patch(hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, tuple[Tensor, ...]]:
        return hidden_states, (hidden_states,) * num_layers

    return patch
