"""Builds objects part by part."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .objects import COLUMN, LATHE, NONE, PARTS, RING, STAR, UNION, Material, Objects
from .streams import constant
from .words import ROLES


@dataclass
class Assembly:
    """Collects the parts of N objects, one `add` a part; `noun` is an index into `words.NOUNS`."""

    count: int
    device: torch.device
    noun: Int[Tensor, " N"]
    parts: list[dict[str, Tensor]] = field(default_factory=list)

    def _scalar(self, value: object) -> Float[Tensor, " N"]:
        if isinstance(value, Tensor):
            return value.to(self.device, torch.float32).expand(self.count)
        return constant((float(value),), self.device).expand(self.count)  # type: ignore[arg-type]

    def _vector(self, value: object, width: int) -> Float[Tensor, "N W"]:
        """A number for all, or one each; numbers or [N] tensors."""
        items: tuple[Any, ...] = value if isinstance(value, tuple) else (value,) * width
        if not any(isinstance(item, Tensor) for item in items):
            return constant(tuple(float(item) for item in items), self.device).expand(self.count, width)
        return torch.stack([self._scalar(item) for item in items], dim=-1)

    def _eye(self) -> Float[Tensor, "N 3 3"]:
        rows = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
        return constant(rows, self.device).expand(self.count, 3, 3)

    def _index(self, value: int | bool | Tensor) -> Tensor:
        if isinstance(value, Tensor):
            return value
        dtype = torch.bool if isinstance(value, bool) else torch.long
        return constant((value,), self.device, dtype).expand(self.count)

    def add(
        self,
        kind: int | Int[Tensor, " N"],
        role: str,
        material: Material,
        size: object,
        centre: object = 0.0,
        *,
        rotation: Float[Tensor, "N 3 3"] | None = None,
        corner: object = 0.0,
        taper: object = 0.0,
        bulge: object = 0.0,
        rounding: object = 0.0,
        smooth: object = 0.0,
        profile: object = 1.0,
        operation: int | Int[Tensor, " N"] = UNION,
        present: Bool[Tensor, " N"] | bool = True,
    ) -> None:
        """One part. `size` and `corner` include the rounding; a RING's rounding is the radius of its tube.

        `corner` is a fraction of the smaller half size (1: a circle); `present` is false where an object lacks it.
        """
        kinds = self._index(kind)
        half, radius = self._vector(size, 3), self._scalar(rounding)
        ring, ball = kinds == RING, (kinds != RING) & (kinds != COLUMN) & (kinds != LATHE) & (kinds != STAR)
        narrow = torch.where(ring, half[:, :2].amin(-1), half[:, [0, 2]].amin(-1))
        radius = torch.where(ring, radius, torch.where(ball, 0.0, radius.minimum(0.98 * half.amin(-1))))
        inset = torch.where(ring, 0.0, radius)
        here = self._index(present)
        self.parts.append(
            {
                "kind": torch.where(here, kinds, NONE),
                "operation": self._index(operation),
                "smooth": self._scalar(smooth),
                "centre": self._vector(centre, 3),
                "rotation": self._eye() if rotation is None else rotation,
                "size": half - inset[:, None],
                "corner": (self._scalar(corner) * narrow - inset).clamp(min=0.0),
                "taper": self._scalar(taper),
                "bulge": self._scalar(bulge),
                "rounding": radius,
                "profile": self._vector(profile, 6),
                "role": self._index(ROLES.index(role)),
                "colors": material.colors,
                "pattern": material.pattern,
                "axis": material.axis,
                "numbers": material.numbers,
            }
        )

    def objects(self, tint: Float[Tensor, "N 4"], light: Float[Tensor, "N 12"]) -> Objects:
        """The objects, padded to PARTS parts."""
        assert 1 <= len(self.parts) <= PARTS, len(self.parts)
        padding = {name: torch.zeros_like(value) for name, value in self.parts[0].items()}
        padding["size"] = torch.ones_like(padding["size"])
        rows = self.parts + [padding] * (PARTS - len(self.parts))
        stacked = {name: torch.stack([row[name] for row in rows], dim=1) for name in padding}
        none = torch.zeros_like(self.noun)
        return Objects(tint=tint, light=light, noun=self.noun, relation=none, other=none, count=none + 1, **stacked)
