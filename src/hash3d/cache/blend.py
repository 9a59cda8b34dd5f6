"""How the entries that a lookup found become one feature."""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from .store import Entry


def softmax_weights(query: Float[Tensor, "*shape"], stored: Sequence[Float[Tensor, "*shape"]]) -> Float[Tensor, " N"]:
    """softmax(-||query - stored_n||_2) over N noisy latents, in float32.

    The released code's form (hash_table.py, "Sim", temperature 1); eq. 6 of arXiv 2404.06091v1 squares the distance,
    which with thousands of dimensions is always a hard pick.
    """
    distances = torch.stack([(query.float() - latents.float()).norm() for latents in stored])
    return torch.softmax(-distances, dim=0)


def blend(weights: Float[Tensor, " N"], features: Sequence[Float[Tensor, "*shape"]]) -> Float[Tensor, "*shape"]:
    """The weighted sum of N features, in their dtype. One feature is returned as it is, bit for bit."""
    if len(features) == 1:
        return features[0]
    return torch.einsum("n,n...->...", weights.to(features[0].dtype), torch.stack(list(features)))


def read(latents: Sequence[Float[Tensor, "C h w"]], entries: Sequence[Sequence[Entry]]) -> Float[Tensor, "S M ..."]:
    """The features of M views, each blended from the entries found for it, as `blended` defines. Without gradients.

    On a GPU with Triton one kernel does it for a view, or two for all views at once. Nothing waits for the GPU.
    """
    if latents[0].is_cuda and has_triton():
        from .memory._triton_read import fits, fused

        if fits(entries[0][0]):
            return fused(latents, entries)
    with torch.no_grad():
        return torch.stack([blended(*view) for view in zip(latents, entries, strict=True)], dim=1)


def blended(latents: Float[Tensor, "C h w"], entries: Sequence[Entry]) -> Float[Tensor, "S ..."]:
    """The blend of entries by softmax of minus the distance between a view's noisy latents and theirs."""
    weights = softmax_weights(latents, [entry.latents for entry in entries])
    return blend(weights, [entry.values for entry in entries])


@cache
def has_triton() -> bool:
    """Whether the package is there."""
    return find_spec("triton") is not None
