"""Random numbers of (seed, object, slot) alone: object 17 is the same on every device and in every batch."""

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFF


def _mix(keys: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A 32-bit integer hash in 64-bit arithmetic (the constants "lowbias32" of Wellons, 2018)."""
    keys = ((keys ^ (keys >> 16)) * 0x7FEB352D) & _MASK
    keys = ((keys ^ (keys >> 15)) * 0x846CA68B) & _MASK
    return keys ^ (keys >> 16)


class Draws:
    """A stream of draws for each of N objects; each call takes the next slots of every stream."""

    def __init__(self, identities: Int[Tensor, " N"], seed: int) -> None:
        self.identities, self.seed = identities, seed
        start = _mix(torch.tensor(seed & _MASK, device=identities.device))
        self._keys = _mix(_mix(identities.long() & _MASK) ^ start)
        self._slot = 0

    def __len__(self) -> int:
        return self.identities.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self.identities.device

    def select(self, chosen: Bool[Tensor, " N"] | Int[Tensor, " M"], branch: int) -> "Draws":
        """The streams of some of the objects, moved to a branch of their own."""
        return Draws(self.identities[chosen], seed=self.seed + 0x5BD1E995 * (branch + 1))

    def uniform(self, low: float = 0.0, high: float = 1.0, *shape: int) -> Float[Tensor, "N ..."]:
        """Uniform in [low, high), of shape [N, *shape]."""
        count = math.prod(shape)
        slots = torch.arange(self._slot, self._slot + count, device=self.device) * 0x9E3779B9
        self._slot += count
        bits = _mix((self._keys[:, None] + slots) & _MASK) >> 8
        return low + (high - low) * (bits.float() / 2**24).reshape(len(self), *shape)

    def flag(self, probability: float) -> Bool[Tensor, " N"]:
        """True with the given probability."""
        return self.uniform() < probability

    def choice(self, weights: list[float]) -> Int[Tensor, " N"]:
        """An index, drawn with the given weights."""
        edges = torch.tensor(weights, device=self.device).cumsum(0)
        index: Tensor = torch.searchsorted(edges / edges[-1], self.uniform(), right=True)
        return index.clamp(max=len(weights) - 1)

    def direction(self) -> Float[Tensor, "N 3"]:
        """A unit vector, uniform on the sphere."""
        height, angle = self.uniform(-1.0, 1.0), self.uniform(0.0, 2.0 * math.pi)
        flat = (1.0 - height * height).clamp(min=0.0).sqrt()
        return torch.stack([flat * angle.cos(), height, flat * angle.sin()], dim=-1)
