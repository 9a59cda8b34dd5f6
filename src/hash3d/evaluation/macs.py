"""Count multiply-accumulates of a U-Net's full and shallow passes, by torch's `FlopCounterMode` on the meta device."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from hash3d.diffusion.loading import EMBEDDED
from hash3d.diffusion.random_weights import UNETS
from hash3d.files import read_json
from hash3d.model_files import embedded_folder
from hash3d.unet.partial_unet import PartialUNet

BRANCHES = 2
"""Of classifier-free guidance: a view is a pair of rows."""
TEXT_TOKENS, IMAGE_TOKENS = 77, 1
"""Rows of the conditioning of a Stable Diffusion and of a Zero123, which has 8 channels in."""


@dataclass(frozen=True, kw_only=True)
class Macs:
    """Multiply-accumulates of a pass of one view, both branches; with attention's own products."""

    full: int
    shallow: tuple[int, ...]
    """By cut, from the first, which leaves out least, to the last."""
    full_layers: int
    """Of convolutions and linear layers alone, as the paper counts."""
    shallow_layers: tuple[int, ...]


def list_unets() -> dict[str, dict[str, Any]]:
    """The configurations that are known without weights: the published layouts and the embedded priors'."""
    return UNETS | {name: read_json(embedded_folder(name) / "unet" / "config.json") for name in EMBEDDED}


@functools.cache
def count_known(name: str) -> Macs:
    """Count for one of `list_unets`."""
    return count_macs(list_unets()[name])


@torch.no_grad()
def count_macs(config: dict[str, Any]) -> Macs:
    """Count for a diffusers configuration, at its own image size."""
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config).eval()
        given, size = unet.config, unet.config.sample_size
        tokens = IMAGE_TOKENS if given.in_channels == 8 else TEXT_TOKENS
        inputs = {
            "sample": torch.empty(BRANCHES, given.in_channels, size, size),
            "timestep": torch.empty(BRANCHES),
            "encoder_hidden_states": torch.empty(BRANCHES, tokens, given.cross_attention_dim),
        }
        if given.class_embed_type == "projection":
            inputs["class_labels"] = torch.empty(BRANCHES, given.projection_class_embeddings_input_dim)
    forward: Callable[..., Any] = unet
    partials = list[PartialUNet]()
    for cut in range(PartialUNet(unet, 0).num_cuts):  # Each captures its feature around the others, all in one pass.
        partials.append(PartialUNet(unet, cut, forward))
        forward = partials[-1].full_pass
    counts, result = [_count(lambda: unet(**inputs))], forward(**inputs)
    for partial in reversed(partials):
        result, feature = result
        partial.forward = unet
        counts.insert(1, _count(functools.partial(partial.shallow_pass, feature, **inputs)))
    (full, full_layers), *others = counts
    shallow, shallow_layers = zip(*others, strict=True)
    return Macs(full=full, shallow=shallow, full_layers=full_layers, shallow_layers=shallow_layers)


def _count(call: Callable[[], object]) -> tuple[int, int]:
    """Return multiply-accumulates of a call, all and without the products inside attention; a flop is half of one."""
    with FlopCounterMode(display=False) as counter:
        call()
    by_kind = counter.get_flop_counts()["Global"]
    inside = sum(flops for kind, flops in by_kind.items() if "attention" in str(kind) or "bmm" in str(kind))
    return sum(by_kind.values()) // 2, (sum(by_kind.values()) - inside) // 2
