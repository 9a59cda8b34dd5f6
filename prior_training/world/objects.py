"""Objects of the procedural world as a struct of tensors: up to PARTS primitives each, one after the other.

Frame: y up, front +z, as in `hash3d.cameras`. A part's local point is `rotation^T (point - centre)`. Lengths are scene
units. Kinds: a COLUMN is a rounded rectangle in x and z, swept along y while it tapers and bulges (box, cylinder, cone,
pyramid, capsule, barrel); an ELLIPSOID; a RING is a tube along a rounded rectangle in x and y (torus, cup handle); a
LATHE is a profile turned about y (vase, bell, bowl); a STAR is a star or regular polygon in x and y, drawn out along z.
"""

import dataclasses
import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

PARTS = 16
NONE, COLUMN, ELLIPSOID, RING, LATHE, STAR = range(6)
UNION, SUBTRACT = 0, 1


def turn(axis: int, angle: Float[Tensor, " N"]) -> Float[Tensor, "N 3 3"]:
    """Rotations about a coordinate axis by angles in radians."""
    cosine, sine = angle.cos(), angle.sin()
    zero, one = torch.zeros_like(angle), torch.ones_like(angle)
    entries = {0: (one, zero, zero, zero, cosine, -sine, zero, sine, cosine)}
    entries[1] = (cosine, zero, sine, zero, one, zero, -sine, zero, cosine)
    entries[2] = (cosine, -sine, zero, sine, cosine, zero, zero, zero, one)
    return torch.stack(entries[axis], dim=-1).view(-1, 3, 3)


def star(points: Float[Tensor, " N"] | float, inner: Float[Tensor, " N"] | float = 0.0) -> tuple[object, ...]:
    """The profile of a STAR; its dents lie at `inner` half sizes (0: a regular polygon)."""
    points = torch.as_tensor(points, dtype=torch.float32)
    angle = math.pi / points
    ratio = torch.where(torch.as_tensor(inner, device=points.device) > 0, inner, angle.cos())
    return (angle, ratio * angle.cos(), ratio * angle.sin(), 0.0, 0.0, 0.0)


def turned(profile: Float[Tensor, "*B 6"], place: Float[Tensor, "*B M"]) -> Float[Tensor, "*B M"]:
    """Radius at `place` in [0, 5] on the Catmull-Rom curve through six radii, its ends drawn on straight."""
    first, second, fifth, sixth = (profile[..., k, None] for k in (0, 1, 4, 5))
    knots = [2 * first - second, *profile[..., None].unbind(-2), 2 * sixth - fifth]
    total = torch.zeros_like(place)
    for number, knot in enumerate(knots):
        gap = (place - (number - 1)).abs()
        near = (1.5 * gap - 2.5) * gap * gap + 1
        far = ((-0.5 * gap + 2.5) * gap - 4) * gap + 2
        total = total + knot * torch.where(gap < 1, near, torch.where(gap < 2, far, 0.0))
    return total.clamp(min=0)


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
    light: Float[Tensor, "N 12"]
    """Ambient share, share of the fixed light (the rest is at the camera), its direction (3), specular strength; and
    how much there is of occlusion, of shadow, of light from above, of warmth, of a second light, and of grain."""
    profile: Float[Tensor, "N P 6"]
    """LATHE: radii, in half sizes, at six even heights from the bottom up (`turned` is the curve through them). STAR:
    half the angle between two points in radians, and x and y of the dent beside the tip (1, 0), in half sizes."""
    noun: Int[Tensor, " N"]
    """Index into `words.NOUNS`."""
    role: Int[Tensor, "N P"]
    """Index into `words.ROLES`."""
    relation: Int[Tensor, " N"]
    """Index into `words.RELATIONS`: how the object stands relative to the part "other"."""
    other: Int[Tensor, " N"]
    """Index into `words.NOUNS`: what the part "other" is."""
    count: Int[Tensor, " N"]
    """How many alike there are."""

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
        return outline(self)

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


def outline(objects: Objects) -> Float[Tensor, "N P 64 3"]:
    """Points on (or, at bulges, near) the surface of every part, in the object's frame; zero where a part is absent."""
    kind = objects.kind.flatten()
    local = torch.zeros(len(kind), 64, 3, device=kind.device)
    shapes = {COLUMN: _column, ELLIPSOID: _ellipsoid, RING: _ring, LATHE: _lathe, STAR: _star}
    for number, points in shapes.items():
        here = (kind == number).nonzero()[:, 0]
        size, rounding = objects.size.flatten(0, 1)[here], objects.rounding.flatten()[here, None]
        numbers = (objects.corner, objects.taper, objects.bulge)
        bend = torch.stack([each.flatten()[here] for each in numbers], dim=-1)
        edges = points((size[:, :1], size[:, 1:2], size[:, 2:]), rounding, bend, objects.profile.flatten(0, 1)[here])
        local[here] = torch.stack(torch.broadcast_tensors(*edges), dim=-1)
    turned_ = local.view(*objects.kind.shape, 64, 3) @ objects.rotation.transpose(-1, -2)
    return turned_ + objects.centre[:, :, None]


Edges = tuple[Tensor, Tensor, Tensor]


def _angles(count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of `count` even angles, 64 / count times over."""
    angle = (torch.arange(count, device=device) * (2 * math.pi / count)).repeat(64 // count)
    return angle.cos(), angle.sin()


def _heights(device: torch.device) -> Tensor:
    return torch.tensor([-1.0, -0.35, 0.35, 1.0], device=device).repeat_interleave(16)


def _edge(half: Tensor, corner: Tensor, wave: Tensor) -> Tensor:
    """A coordinate on a rounded rectangle."""
    return (half - corner) * (wave.abs() > 1e-4) * wave.sign() + corner * wave


def _column(half: Edges, rounding: Tensor, bend: Tensor, profile: Tensor) -> Edges:
    (cosine, sine), height = _angles(16, rounding.device), _heights(rounding.device)
    corner, taper, bulge = bend[..., None].unbind(1)
    scale = 1 + taper * height + bulge * (1 - height * height)
    x, z = scale * _edge(half[0], corner, cosine), scale * _edge(half[2], corner, sine)
    return x + rounding * cosine, height * (half[1] + rounding), z + rounding * sine


def _ellipsoid(half: Edges, rounding: Tensor, bend: Tensor, profile: Tensor) -> Edges:
    (cosine, sine), height = _angles(16, rounding.device), _heights(rounding.device)
    latitude = (1 - height * height).sqrt()
    return half[0] * latitude * cosine, half[1] * height, half[2] * latitude * sine


def _ring(half: Edges, rounding: Tensor, bend: Tensor, profile: Tensor) -> Edges:
    (cosine, sine), corner = _angles(16, rounding.device), bend[:, :1]
    x, y = _edge(half[0], corner, cosine), _edge(half[1], corner, sine)
    return x + rounding * cosine, y + rounding * sine, rounding * _heights(rounding.device)


def _lathe(half: Edges, rounding: Tensor, bend: Tensor, profile: Tensor) -> Edges:
    place = torch.linspace(0, 5, 8, device=rounding.device)
    radius = turned(profile, place.expand(len(profile), 8)).repeat_interleave(8, dim=1)
    cosine, sine = _angles(8, rounding.device)
    height = (place * 0.4 - 1).repeat_interleave(8) * (half[1] + rounding)
    return (half[0] * radius + rounding) * cosine, height, (half[2] * radius + rounding) * sine


def _star(half: Edges, rounding: Tensor, bend: Tensor, profile: Tensor) -> Edges:
    (cosine, sine), height = _angles(16, rounding.device), _heights(rounding.device)
    return (half[0] + rounding) * cosine, (half[1] + rounding) * sine, height.sign() * (half[2] + rounding)
