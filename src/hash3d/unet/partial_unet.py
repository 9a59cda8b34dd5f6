"""The partial U-Net: capture the deep feature in a full pass, and run only the shallow layers from it.

Supplement of Hash3D, section A: with l up layers U_1 .. U_l (each consumes one skip connection), the feature i is the
tensor entering U_{i+1}, which consumes skip s = l - 1 - i. On reuse only the down layers up to s and the last s + 1 up
layers run (eq. 10), and the others hand on their input. For Stable Diffusion l is 12; here it is counted in the module.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from .model import count_cuts, hooks_of, layout_of, memory_format_of, patched


class PartialUNet:
    """The passes of one U-Net around one cut, as PyTorch runs them.

    Args:
        unet: any `UNet2DConditionModel`, or U-Net of LDM, whose down layers each make one skip connection.
        cut: the supplement's index i, 0 <= i < `num_cuts`; negative counts from the end, as in a list.
        forward: runs the whole U-Net; None is the U-Net itself.
    """

    def __init__(self, unet: nn.Module, cut: int, forward: Callable[..., Any] | None = None) -> None:
        self.unet, self.layout = unet, layout_of(unet)
        self.forward = forward or unet
        down_layers, up_layers = self.layout.list_layers()
        self.num_cuts = count_cuts(unet, cut, len(down_layers), len(up_layers))
        self.cut = cut % self.num_cuts
        self.skip = self.num_cuts - 1 - self.cut
        self._format: torch.memory_format | None = None
        self._skip_channels, self._entry = down_layers[self.skip][1], up_layers[self.cut]
        self.patches = self.layout.skip_layers([module for module, _ in down_layers[: self.skip + 1]], self._entry)

    def plain_pass(self, *args: Any, **kwargs: Any) -> Any:
        """The U-Net's output."""
        return self.forward(*args, **kwargs)

    def full_pass(self, *args: Any, **kwargs: Any) -> tuple[Any, Tensor]:
        """The U-Net's output, and the feature [N, C, h, w] entering up layer `cut` + 1 beside the skip."""
        captured: list[Tensor] = []

        def capture(_: Any, inputs: tuple[Any, ...]) -> None:
            self._format = torch.contiguous_format if inputs[0].is_contiguous() else torch.channels_last
            captured.append(inputs[0][:, : -self._skip_channels])

        with self._entry.register_forward_pre_hook(capture):
            return self.forward(*args, **kwargs), captured.pop()

    def shallow_pass(self, feature: Tensor, *args: Any, **kwargs: Any) -> Any:
        """The U-Net's output from a feature [N, C, h, w] and the shallow layers; from its own, the full pass's."""
        with self.reusing(feature):
            return self.forward(*args, **self.layout.trim(kwargs, self.skip))

    @contextmanager
    def reusing(self, feature: Tensor) -> Iterator[None]:
        """While open, calls are shallow. Their memory is laid out as in a full pass, or they round otherwise."""

        def inject(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            joined = torch.cat([feature, inputs[0][:, -self._skip_channels :]], dim=1)
            return (joined.to(memory_format=self._format or memory_format_of(self.unet)), *inputs[1:])

        with self._entry.register_forward_pre_hook(inject), patched([*self.patches, *hooks_of(self.patches)]):
            yield

    def fill(self, rows: list[int], count: int) -> list[int]:
        """The views to run for the views `rows` of a batch of `count`: these, and here no others."""
        return rows
