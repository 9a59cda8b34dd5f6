"""How the entries that a lookup found become one feature."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from .calls import Entry


def softmax_weights(
    query: Float[Tensor, "*shape"], stored: Sequence[Float[Tensor, "*shape"]], *, squared: bool = False
) -> Float[Tensor, " N"]:
    """softmax(-||query - stored_n||_2) over N noisy latents, in float32.

    The released code's form (hash_table.py, "Sim", temperature 1); `squared` is eq. 6 of arXiv 2404.06091v1, which
    with thousands of dimensions is always a hard pick.
    """
    distances = (torch.stack(list(stored)).float() - query.float()).flatten(1).norm(dim=1)
    return torch.softmax(-distances.square() if squared else -distances, dim=0)


def blend(weights: Float[Tensor, " N"], features: Sequence[Float[Tensor, "*shape"]]) -> Float[Tensor, "*shape"]:
    """The weighted sum of N features, in their dtype."""
    return torch.einsum("n,n...->...", weights.to(features[0].dtype), torch.stack(list(features)))


def blend_entries(query: Float[Tensor, "C h w"], entries: Sequence[Entry], squared: bool) -> Float[Tensor, "S ..."]:
    """One view's feature: entries weighted by how near their noisy latents are to the view's; one alone as it is."""
    if len(entries) == 1:
        return entries[0].feature
    weights = softmax_weights(query, [entry.latents for entry in entries], squared=squared)
    return blend(weights, [entry.feature for entry in entries])
