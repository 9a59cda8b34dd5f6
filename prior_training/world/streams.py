"""Random numbers of (seed, object, slot) alone: object 17 is the same on every device and in every batch."""

import functools
import itertools
import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_MASK = 0xFFFFFFFF
BLOCK = 32
"""Numbers of a stream that are made at once."""


def _mix(keys: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    """A 32-bit integer hash in 64-bit arithmetic (the constants "lowbias32" of Wellons, 2018)."""
    keys = ((keys ^ (keys >> 16)) * 0x7FEB352D) & _MASK
    keys = ((keys ^ (keys >> 15)) * 0x846CA68B) & _MASK
    return keys ^ (keys >> 16)


@functools.cache
def constant(values: tuple[object, ...], device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A small tensor of numbers, made once a device; not to be written to."""
    return torch.tensor(values, device=device, dtype=dtype)


class RandomStreams:
    """A stream of random numbers for each of N objects; each call takes the next slots of every stream."""

    def __init__(self, identities: Int[Tensor, " N"], seed: int) -> None:
        self.identities, self.seed = identities, seed
        start = _mix(torch.tensor(seed & _MASK, device=identities.device))
        self._keys = _mix(_mix(identities.long() & _MASK) ^ start)
        self._slot, self._numbers = 0, torch.empty(len(self), 0, device=self.device)

    def __len__(self) -> int:
        return self.identities.shape[0]

    @property
    def device(self) -> torch.device:
        """Where the numbers are made."""
        return self.identities.device

    def select(self, chosen: Bool[Tensor, " N"] | Int[Tensor, " M"], branch: int) -> "RandomStreams":
        """The streams of some of the objects, moved to a branch of their own."""
        return RandomStreams(self.identities[chosen], seed=self.seed + 0x5BD1E995 * (branch + 1))

    def uniform(self, low: float = 0.0, high: float = 1.0, *shape: int) -> Float[Tensor, "N ..."]:
        """Uniform in [low, high), of shape [N, *shape]."""
        count = math.prod(shape)
        self._slot += count
        while self._numbers.shape[1] < self._slot:
            slots = torch.arange(BLOCK, device=self.device) + self._numbers.shape[1]
            bits = _mix((self._keys[:, None] + slots * 0x9E3779B9) & _MASK) >> 8
            self._numbers = torch.cat([self._numbers, bits.float() / 2**24], dim=1)
        return low + (high - low) * self._numbers[:, self._slot - count : self._slot].reshape(len(self), *shape)

    def flag(self, probability: float) -> Bool[Tensor, " N"]:
        """True with the given probability."""
        return self.uniform() < probability

    def choice(self, weights: Sequence[float]) -> Int[Tensor, " N"]:
        """An index, sampled with the given weights."""
        total = sum(weights)
        edges = constant(tuple(each / total for each in itertools.accumulate(weights)), self.device)
        index: Tensor = torch.searchsorted(edges, self.uniform(), right=True)
        return index.clamp(max=len(weights) - 1)

    def full(self, value: float) -> Float[Tensor, " N"]:
        """The same number for all; takes no slot."""
        return torch.full((len(self),), value, device=self.device)

    def direction(self) -> Float[Tensor, "N 3"]:
        """A unit vector, uniform on the sphere."""
        height, angle = self.uniform(-1.0, 1.0), self.uniform(0.0, 2.0 * math.pi)
        flat = (1.0 - height * height).clamp(min=0.0).sqrt()
        return torch.stack([flat * angle.cos(), height, flat * angle.sin()], dim=-1)
