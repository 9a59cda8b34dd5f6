"""Where the tensors of entries lie: slots of one size, allocated once and used again and again."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from ..calls import Entry
from ..config import CacheConfig, Storage
from .quantise import Quantised, quantise

SCALE_BYTES = torch.float32.itemsize


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What an entry holds, and where. All entries of a pool have the same; the order in memory may differ."""

    latents: torch.Size
    latents_dtype: torch.dtype
    feature: torch.Size
    feature_dtype: torch.dtype
    device: torch.device
    channels_last: bool = field(compare=False)
    """Whether the C channels of a pixel of a feature [S, C, h, w] lie together, as some U-Nets leave it."""

    @classmethod
    def of(cls, latents: Tensor, feature: Tensor | Quantised, device: torch.device) -> "Layout":
        """The layout of such an entry on a device, whether its feature is in 8 bits already or not."""
        numbers = feature.codes if isinstance(feature, Quantised) else feature
        return cls(
            latents=latents.shape,
            latents_dtype=latents.dtype,
            feature=feature.shape,
            feature_dtype=feature.dtype,
            device=device,
            channels_last=is_channels_last(numbers),
        )

    def slot_bytes(self, storage: Storage) -> int:
        """Bytes that one entry takes."""
        latents, numbers = self.latents.numel() * self.latents_dtype.itemsize, self.feature.numel()
        if storage == "int8":
            return latents + numbers + self.feature[:2].numel() * SCALE_BYTES
        return latents + numbers * self.feature_dtype.itemsize


@dataclass(frozen=True, eq=False)
class Slot:
    """The memory of one entry."""

    latents: Tensor
    feature: Tensor | Quantised


class SlotPool:
    """Memory for entries of one layout, never more than `max_bytes`. The store decides which entries live in it.

    It is allocated in blocks of `block_slots` slots: in one, if that is all that the store comes to hold. A slot that
    was used before is taken first, so that on a CPU the pages of slots that are not needed are never touched. A slot is
    written again as soon as its entry is freed: whoever found an entry reads it before the next `keep`.

    Example: `pool.keep(entries)` those that a store has taken, and `pool.free(entry)` each that it has dropped.
    """

    def __init__(self, layout: Layout, *, storage: Storage, block_slots: int, max_bytes: int) -> None:
        self.layout, self.storage, self.block_slots, self.max_bytes = layout, storage, block_slots, max_bytes
        self.slot_bytes = self.layout.slot_bytes(storage)
        self.num_slots = 0
        """Slots allocated."""
        self._block: list[Tensor] = []
        self._used = 0
        """Slots of the newest block that were ever used."""
        self._slots: dict[Entry, Slot] = {}
        self._free: list[Slot] = []

    @property
    def num_bytes(self) -> int:
        """Bytes allocated."""
        return self.num_slots * self.slot_bytes

    def __contains__(self, entry: Entry) -> bool:
        return entry in self._slots

    def __len__(self) -> int:
        return len(self._slots)

    def keep(self, entries: Sequence[Entry]) -> None:
        """Copy entries into slots: from here on they hold these, and no memory of the caller's."""
        for entry in entries:
            slot = self._free.pop() if self._free else self._unused()
            slot.latents.copy_(entry.latents)
            if isinstance(slot.feature, Quantised):
                given = entry.feature
                slot.feature.copy_(given if isinstance(given, Quantised) else quantise(given))
            else:
                slot.feature.copy_(entry.values)
            entry.latents, entry.feature = slot.latents, slot.feature
            self._slots[entry] = slot

    def free(self, entries: Sequence[Entry]) -> None:
        """Take back the slots of entries that nobody holds any more; one that never had any is passed over."""
        for entry in entries:
            if entry in self._slots:
                self._free.append(self._slots.pop(entry))

    def read(self, latents: Sequence[Tensor], entries: Sequence[Sequence[Entry]]) -> Tensor | None:
        """The features [S, M, ...] of M views by Triton's kernels, as `blend_entries` defines; None if they cannot."""
        assert all(entry in self for view in entries for entry in view), "read before the next insert"
        if not (latents[0].is_cuda and has_triton()):
            return None
        from ._triton_read import fits, fused

        return fused(latents, entries) if fits(entries[0][0]) else None

    def _unused(self) -> Slot:
        """A slot that was never used before."""
        if not self._block or self._used == len(self._block[0]):
            self._allocate()
        latents, feature, *scale = (tensor[self._used] for tensor in self._block)
        self._used += 1
        if not scale:
            return Slot(latents, feature)
        return Slot(latents, Quantised(codes=feature, scale=scale[0], dtype=self.layout.feature_dtype))

    def _allocate(self) -> None:
        """Another block, as far as the budget goes."""
        layout, count = self.layout, min(self.block_slots, self.max_bytes // self.slot_bytes - self.num_slots)
        assert count > 0, f"the store holds more than {self.num_slots} entries of {self.slot_bytes} bytes"
        dtype = torch.int8 if self.storage == "int8" else layout.feature_dtype
        latents = torch.empty(count, *layout.latents, dtype=layout.latents_dtype, device=layout.device)
        feature = empty((count, *layout.feature), dtype, layout.device, channels_last=layout.channels_last)
        self._block = [latents, feature]
        if self.storage == "int8":
            self._block.append(torch.empty(count, *layout.feature[:2], device=layout.device))
        self.num_slots, self._used = self.num_slots + count, 0


def build_slots(config: CacheConfig, latents: Tensor, feature: Tensor, views: int) -> SlotPool:
    """Empty slots for entries like this one, as many as can come together in calls of so many views."""
    layout = Layout.of(latents, feature, latents.device)
    slots = config.capacity(views)
    return SlotPool(layout, storage=config.storage, block_slots=slots, max_bytes=config.max_bytes)


@cache
def has_triton() -> bool:
    """Whether the package is there."""
    return find_spec("triton") is not None


def is_channels_last(feature: Tensor) -> bool:
    """Whether the C channels of a pixel lie together in a feature [S, C, h, w], as a channels-last U-Net leaves it."""
    return feature.ndim == 4 and feature.stride(1) == 1 and feature.shape[1] > 1


def empty(shape: Sequence[int], dtype: torch.dtype, device: torch.device, *, channels_last: bool) -> Tensor:
    """A dense tensor [..., C, h, w], whose numbers lie in the order [..., h, w, C] if `channels_last`."""
    if not channels_last:
        return torch.empty(*shape, dtype=dtype, device=device)
    *others, channels, height, width = shape
    return torch.empty(*others, height, width, channels, dtype=dtype, device=device).movedim(-1, -3)
