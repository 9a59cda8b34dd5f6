"""The package DeepCache (Ma et al. 2024, https://pypi.org/project/DeepCache/) on a U-Net that no scheduler drives."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

INSTALL = "pip install 'hash3d[bench]'"
TOLERANCE = 1e-3
"""Relative: another layout may choose another kernel, in half precision; another feature is far off."""


class DeepCachePackage:
    """`DeepCacheSDHelper` of DeepCache 0.1.1 on one U-Net, for good.

    The helper finds its step by looking the timestep up in a scheduler's list, and reads it from the second positional
    argument. Score distillation draws timesteps at random and passes them by name, so that its step is counted here:
    every `interval`-th call runs in full.

    Args:
        unet: a diffusers U-Net with two resnets a down block, as in Stable Diffusion.
        interval: calls from one full pass to the next.
        skip: the deepest skip connection that a shallow pass computes, DeepCache's branch: 0 is the last cut, 1 i = 10.

    Raises:
        ImportError: the package is not there.
    """

    def __init__(self, unet: Any, *, interval: int, skip: int) -> None:
        try:
            from DeepCache import DeepCacheSDHelper
        except ImportError as error:
            raise ImportError(f"DeepCache is not installed ({INSTALL})") from error
        self.interval, self.calls = interval, 0
        self._helper = DeepCacheSDHelper(pipe=SimpleNamespace(unet=unet))
        self._helper.set_params(cache_interval=interval, cache_branch_id=skip)
        self._helper.enable()
        forward = self._helper.function_dict["unet_forward"]

        def counted(*args: Any, **kwargs: Any) -> Any:
            self._helper.cur_timestep = self.calls
            self.calls += 1
            return forward(*args, **kwargs)

        unet.forward = counted

    @property
    def shallow_calls(self) -> int:
        """Calls so far that took the last feature."""
        return self.calls - -(-self.calls // self.interval)

    def restart(self) -> None:
        """Count from 0: the next call runs in full."""
        self.calls = 0
        self._helper.cached_output.clear()


@contextmanager
def record_inputs(unet: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield a dictionary that gets the arguments of each call of a U-Net in this block; the last ones stay."""
    seen = dict[str, Any]()

    def note(_: nn.Module, __: tuple[Any, ...], given: dict[str, Any]) -> None:
        seen.update({name: value for name, value in given.items() if name != "return_dict"})

    handle = unet.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


@torch.no_grad()
def works(package: DeepCachePackage, unet: Any, inputs: dict[str, Any]) -> bool:
    """Whether a shallow pass after a full one of the same input gives the same; the count starts anew afterwards."""
    if package.interval == 1:
        return True
    full, shallow = (_sample(unet(**inputs)) for _ in range(2))
    package.restart()
    return bool((full - shallow).norm() <= TOLERANCE * full.norm())


def _sample(output: Any) -> Tensor:
    """The prediction of a U-Net's output, a tuple or diffusers' own, in float32."""
    sample: Tensor = output[0]
    return sample.float()
