"""Objects of the procedural world as a struct of tensors: up to PARTS primitives each, one after the other.

Frame: y up, front +z, as in `hash3d.cameras`. A part's local point is `rotation^T (point - centre)`. Lengths are scene
units. Kinds: a COLUMN is a rounded rectangle in x and z, swept along y while it tapers and bulges (box, cylinder, cone,
pyramid, capsule, barrel); an ELLIPSOID; a RING is a tube along a rounded rectangle in x and y (torus, cup handle).
"""

import dataclasses
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

PARTS = 10
NONE, COLUMN, ELLIPSOID, RING = 0, 1, 2, 3
UNION, SUBTRACT = 0, 1


def turn(axis: int, angle: Float[Tensor, " N"]) -> Float[Tensor, "N 3 3"]:
    """Rotations about a coordinate axis by angles in radians."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = torch.eye(3, device=angle.device).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, first, second], matrix[:, second, first] = -angle.sin(), angle.sin()
    return matrix


@dataclass(frozen=True, kw_only=True)
class Material:
    """Colours and a pattern for one part of each of N objects; the patterns are in `textures`."""

    colors: Float[Tensor, "N 3 3"]
    """First, second and third colour."""
    pattern: Int[Tensor, " N"]
    axis: Float[Tensor, "N 3"]
    numbers: Float[Tensor, "N 4"]


@dataclass(frozen=True, kw_only=True)
class Objects:
    """N objects of P parts."""

    kind: Int[Tensor, "N P"]
    operation: Int[Tensor, "N P"]
    smooth: Float[Tensor, "N P"]
    """Radius of the blend with what was there before."""
    centre: Float[Tensor, "N P 3"]
    rotation: Float[Tensor, "N P 3 3"]
    size: Float[Tensor, "N P 3"]
    """Half sizes without the rounding."""
    corner: Float[Tensor, "N P"]
    """Corner radius of the rounded rectangle, without the rounding."""
    taper: Float[Tensor, "N P"]
    bulge: Float[Tensor, "N P"]
    """The cross-section at height t in [-1, 1] is scaled by 1 + taper t + bulge (1 - t^2)."""
    rounding: Float[Tensor, "N P"]
    colors: Float[Tensor, "N P 3 3"]
    pattern: Int[Tensor, "N P"]
    axis: Float[Tensor, "N P 3"]
    numbers: Float[Tensor, "N P 4"]
    tint: Float[Tensor, "N 4"]
    """Colour towards which the underside goes, and by how much."""
    light: Float[Tensor, "N 6"]
    """Ambient share, share of the fixed light (the rest is at the camera), its direction (3), specular strength."""

    def __len__(self) -> int:
        return self.kind.shape[0]

    def __getitem__(self, index: Tensor | slice) -> "Objects":
        return Objects(**{each.name: getattr(self, each.name)[index] for each in dataclasses.fields(self)})

    def to(self, device: torch.device | str) -> "Objects":
        """The same objects on another device."""
        return Objects(**{each.name: getattr(self, each.name).to(device) for each in dataclasses.fields(self)})

    @staticmethod
    def concatenate(groups: list["Objects"]) -> "Objects":
        """All objects of several groups."""
        names = [each.name for each in dataclasses.fields(Objects)]
        return Objects(**{name: torch.cat([getattr(group, name) for group in groups]) for name in names})

    def outline(self) -> Float[Tensor, "N P 64 3"]:
        """Points on (or, at bulges, near) the surface of every part, in the object's frame."""
        device, rounding = self.kind.device, self.rounding[..., None]
        angle = (torch.arange(16, device=device) * (torch.pi / 8)).repeat(4)
        height = torch.tensor([-1.0, -0.35, 0.35, 1.0], device=device).repeat_interleave(16)
        profile = 1 + self.taper[..., None] * height + self.bulge[..., None] * (1 - height * height)
        cosine, sine = angle.cos(), angle.sin()
        half_x, half_y, half_z = (axis[..., None] for axis in self.size.unbind(-1))
        corner = self.corner[..., None]

        def rectangle(half: Tensor, wave: Tensor) -> Tensor:
            return (half - corner) * (wave.abs() > 1e-4) * wave.sign() + corner * wave

        column = torch.stack(
            torch.broadcast_tensors(
                profile * rectangle(half_x, cosine) + rounding * cosine,
                height * (half_y + rounding),
                profile * rectangle(half_z, sine) + rounding * sine,
            ),
            -1,
        )
        latitude = (1 - height * height).sqrt()
        sphere = torch.stack([latitude * cosine, height, latitude * sine], -1)
        ring = torch.stack(
            torch.broadcast_tensors(
                rectangle(half_x, cosine) + rounding * cosine,
                rectangle(half_y, sine) + rounding * sine,
                rounding * height,
            ),
            -1,
        )
        kind = self.kind[..., None, None]
        local = torch.where(kind == COLUMN, column, torch.where(kind == RING, ring, sphere * self.size[:, :, None]))
        return torch.einsum("npij,npkj->npki", self.rotation, local) + self.centre[:, :, None]

    def transformed(self, rotation: Float[Tensor, "N 3 3"]) -> "Objects":
        """The objects turned about the origin."""
        return dataclasses.replace(
            self,
            centre=torch.einsum("nij,npj->npi", rotation, self.centre),
            rotation=torch.einsum("nij,npjk->npik", rotation, self.rotation),
        )

    def normalised(self, radius: Float[Tensor, " N"]) -> "Objects":
        """Centred (middle of the bounding box) and scaled to a bounding sphere of the given radius."""
        points = self.outline()
        solid = ((self.kind != NONE) & (self.operation == UNION))[:, :, None, None]
        low = torch.where(solid, points, torch.inf).amin((1, 2))
        high = torch.where(solid, points, -torch.inf).amax((1, 2))
        middle = 0.5 * (low + high)
        reach = torch.where(solid[..., 0], (points - middle[:, None, None]).norm(dim=-1), 0.0).amax((1, 2))
        scale = (radius / reach)[:, None]
        return dataclasses.replace(
            self,
            centre=(self.centre - middle[:, None]) * scale[..., None],
            size=self.size * scale[..., None],
            corner=self.corner * scale,
            rounding=self.rounding * scale,
            smooth=self.smooth * scale,
        )


@dataclass
class Assembly:
    """Collects the parts of N objects, one `add` a part."""

    count: int
    device: torch.device
    parts: list[dict[str, Tensor]] = field(default_factory=list)

    def _vector(self, value: object, width: int) -> Float[Tensor, "N W"]:
        """Numbers or [N] tensors, side by side."""
        items = [value] * width if isinstance(value, int | float | Tensor) else list(value)  # type: ignore[call-overload]
        return torch.stack([self._scalar(item) for item in items], dim=-1)

    def _scalar(self, value: object) -> Float[Tensor, " N"]:
        return torch.as_tensor(value, dtype=torch.float32, device=self.device).expand(self.count)

    def add(
        self,
        kind: int | Tensor,
        material: Material,
        *,
        size: object,
        centre: object = 0.0,
        rotation: Float[Tensor, "N 3 3"] | None = None,
        corner: object = 0.0,
        taper: object = 0.0,
        bulge: object = 0.0,
        rounding: object = 0.0,
        smooth: object = 0.0,
        operation: int | Tensor = UNION,
        present: Tensor | bool = True,
    ) -> None:
        """One part. `size` and `corner` include the rounding; a RING's rounding is the radius of its tube.

        `corner` is a fraction of the smaller half size (1: a circle); `present` is false where an object lacks it.
        """
        kinds = torch.as_tensor(kind, device=self.device).expand(self.count)
        half, radius = self._vector(size, 3), self._scalar(rounding)
        column, ring = kinds == COLUMN, kinds == RING
        narrow = torch.where(ring, half[:, :2].amin(-1), half[:, [0, 2]].amin(-1))
        radius = torch.where(column, radius.minimum(0.98 * half.amin(-1)), torch.where(ring, radius, 0.0))
        circle = self._scalar(corner) * narrow - torch.where(column, radius, 0.0)
        here = torch.as_tensor(present, device=self.device).expand(self.count)
        eye = torch.eye(3, device=self.device).expand(self.count, 3, 3)
        self.parts.append(
            {
                "kind": torch.where(here, kinds, NONE),
                "operation": torch.as_tensor(operation, device=self.device).expand(self.count),
                "smooth": self._scalar(smooth),
                "centre": self._vector(centre, 3),
                "rotation": eye if rotation is None else rotation,
                "size": half - torch.where(column, radius, 0.0)[:, None],
                "corner": circle.clamp(min=0.0),
                "taper": self._scalar(taper),
                "bulge": self._scalar(bulge),
                "rounding": radius,
                "colors": material.colors,
                "pattern": material.pattern,
                "axis": material.axis,
                "numbers": material.numbers,
            }
        )

    def objects(self, tint: Float[Tensor, "N 4"], light: Float[Tensor, "N 6"]) -> Objects:
        """The objects, padded to PARTS parts."""
        assert 1 <= len(self.parts) <= PARTS
        padding = {name: torch.zeros_like(value) for name, value in self.parts[0].items()}
        padding["size"] = torch.ones_like(padding["size"])
        rows = self.parts + [padding] * (PARTS - len(self.parts))
        stacked = {name: torch.stack([row[name] for row in rows], dim=1) for name in padding}
        return Objects(tint=tint, light=light, **stacked)
