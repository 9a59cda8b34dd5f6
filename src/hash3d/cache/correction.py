"""A first-order correction of a reused prediction: what the stored feature does not know of today's latents.

A shallow pass sees today's noisy latents z through its own layers and yesterday's, z_a, through the stored feature; so
its prediction still carries z_a's noise. To first order the difference is linear in z - z_a, and most of it is a
multiple of it: prediction + k (z - z_a). k depends on the timestep and the branch, and is learned by least squares
where a full pass runs beside a reuse. It makes the last cut, where a pass is cheapest, as exact as deeper ones.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


class LatentCorrection:
    """k for each bin of the timestep and each of S branches.

    Args:
        width: diffusion steps of a bin.
        memory: of the running sums that k is a quotient of; 0 keeps the last audit alone.
    """

    def __init__(self, *, width: float, memory: float) -> None:
        self.width, self.memory = width, memory
        self._sums: dict[int, Float[Tensor, "2 S"]] = {}

    def knows(self, timestep: float) -> bool:
        """Whether an audit has been made in the timestep's bin."""
        return self.bin(timestep) in self._sums

    def factors(self, timestep: float) -> Float[Tensor, " S"] | None:
        """k of the nearest bin that is known; None if none is."""
        if not self._sums:
            return None
        wanted = self.bin(timestep)
        products, squares = self._sums[min(self._sums, key=lambda known: abs(known - wanted))]
        return products / squares.clamp(min=torch.finfo(squares.dtype).tiny)

    def apply(
        self, reused: Float[Tensor, "S C h w"], gap: Float[Tensor, "C h w"], timestep: float
    ) -> Float[Tensor, "S C h w"]:
        """The corrected prediction of one view; `gap` is z - z_a."""
        factors = self.factors(timestep)
        return reused if factors is None else reused + (factors[:, None, None, None] * gap).to(reused)

    @torch.no_grad()
    def learn(
        self,
        reused: Float[Tensor, "S C h w"],
        full: Float[Tensor, "S C h w"],
        gap: Float[Tensor, "C h w"],
        timestep: float,
    ) -> None:
        """Take in one audit: k = <full - reused, gap> / <gap, gap>, of sums over the bin's audits, newer ones more."""
        difference, gap = (full - reused).flatten(1).float(), gap.flatten().float()
        sums = torch.stack([difference @ gap, gap.square().sum().expand(len(difference))])
        known = self._sums.get(self.bin(timestep))
        self._sums[self.bin(timestep)] = sums if known is None else self.memory * known + sums

    def clear(self) -> None:
        """Forget everything."""
        self._sums.clear()

    def bin(self, timestep: float) -> int:
        """The number of a timestep's bin."""
        return int(timestep // self.width)

    def state_dict(self) -> dict[str, Any]:
        """Tensors and plain values."""
        return {"bins": list(self._sums), "sums": list(self._sums.values())}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a saved state."""
        self._sums = dict(zip(state["bins"], state["sums"], strict=True))
