"""Simple solids, two of them side by side, and random compositions. Units are arbitrary."""

from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from .assembly import Assembly
from .materials import color, material, plain
from .objects import COLUMN, ELLIPSOID, LATHE, RING, STAR, SUBTRACT, UNION, Material, star, turn
from .streams import RandomStreams
from .words import NOUNS, RELATIONS

SOLIDS = ("ball", "cube", "cylinder", "cone", "ring", "star", "box")


def _add(
    rng: RandomStreams,
    shape: Assembly,
    role: str,
    which: Int[Tensor, " N"],
    half: Tensor,
    centre: object,
    paint_: Material,
) -> Tensor:
    """One solid each, standing; `half` is about half its height. Returns the half height."""
    u = rng.uniform

    def table(values: list[float]) -> Tensor:
        return torch.tensor(values, device=rng.device)[which]

    kind = table([ELLIPSOID, COLUMN, COLUMN, COLUMN, RING, STAR, COLUMN]).long()
    thick = half * u(0.22, 0.4)
    ring, starry, box, cone = which == 4, which == 5, which == 6, which == 3
    wide = half * torch.where(box, u(1.2, 1.7), torch.where(which == 2, u(0.5, 0.85), torch.where(cone, 0.42, 1.0)))
    tall = half * torch.where(box, u(0.6, 1.0), 1.0)
    deep = torch.where(starry, thick, torch.where(box, half * u(0.7, 1.1), wide))
    tube = torch.where(ring, thick, half * table([0.0, 0.06, 0.06, 0.03, 0.0, 0.12, 0.04]))
    wide, tall = wide - torch.where(ring, tube, 0.0), tall - torch.where(ring, tube, 0.0)
    shape.add(
        kind, role, paint_, (wide, tall, deep), centre, rounding=tube, corner=table([0, 0, 1.0, 1.0, 1.0, 0, 0]),
        taper=torch.where(cone, -0.92, 0.0), profile=star(5.0, 0.45),
    )  # fmt: skip
    return tall + torch.where(ring, tube, 0.0)


def solid(name: str) -> Callable[[RandomStreams, Assembly], None]:
    """A function that assembles single solids of one name."""

    def assemble(rng: RandomStreams, shape: Assembly) -> None:
        which = torch.full((len(rng),), SOLIDS.index(name), device=rng.device)
        _add(rng, shape, "body", which, rng.full(1.0), 0.0, material(rng))

    return assemble


def scene(rng: RandomStreams, shape: Assembly) -> None:
    """Two solids: the first on, beside, in front of or behind the second."""
    u = rng.uniform
    first, relation = rng.choice([1.0] * 6), rng.choice([0.4, 0.3, 0.15, 0.15]) + 1
    on = relation == 1
    flat = torch.tensor([1, 6, 2], device=rng.device)[rng.choice([1.0, 1.5, 1.0])]
    second = torch.where(on, flat, (first + 1 + rng.choice([1.0] * 5)) % 6)
    second = torch.where(second == first, 6, second)
    here, there = plain(rng), plain(rng)
    half = torch.where(relation == 4, u(0.9, 1.1), u(0.6, 0.9))
    other = torch.where(relation == 3, u(0.9, 1.1), u(0.65, 0.85))
    height = _add(rng, shape, "other", second, other, 0.0, there)
    side = torch.where(rng.flag(0.5), 1.0, -1.0)
    gap = 1.05 * (half + other * torch.where(second == 6, 1.5, 1.0))
    x = torch.where(relation == 2, side * gap, torch.where(on, 0.0, u(-0.3, 0.3)))
    z = torch.where(relation == 3, half + other, torch.where(relation == 4, -half - other, 0.0))
    y = torch.where(on, height + half, half - height)
    _add(rng, shape, "body", first, half, (x, y, z), here)
    names = torch.tensor([NOUNS.index(name) for name in SOLIDS], device=rng.device)
    shape.noun, shape.other, shape.relation = names[first], names[second], relation
    assert RELATIONS[1:] == ("on", "beside", "in front of", "behind")


def composition(rng: RandomStreams, shape: Assembly) -> None:
    """One to five parts of any kind, each placed next to or inside an earlier one; the third is sometimes cut away."""
    u = rng.uniform
    count = rng.choice([0.15, 0.25, 0.27, 0.18, 0.15]) + 1
    shared, centre = color(rng), torch.zeros(len(rng), 3, device=rng.device)
    smooth = torch.where(rng.flag(0.5), u(0.02, 0.3), u(0.0, 0.001))
    spread = torch.tensor([0.8, 1.0, 0.8], device=rng.device)
    kinds = torch.tensor([COLUMN, ELLIPSOID, RING, LATHE, STAR], device=rng.device)
    for part in range(5):
        kind = kinds[rng.choice([0.45, 0.27, 0.1, 0.1, 0.08])]
        coat = material(rng, base=torch.where(rng.flag(0.3)[:, None], shared, color(rng)))
        size = u(0.25, 1.0, 3) * (1.0 if part == 0 else 0.75)
        tilted = turn(2, torch.where(rng.flag(0.35), u(-1.6, 1.6), 0.0))
        cut = rng.flag(0.4 if part == 2 else 0.0)
        corner, edge = torch.where(rng.flag(0.5), u(0.98, 1.0), u(0.0, 0.5)), u(0.04, 0.22)
        taper, bulge = u(-0.6, 0.6) * rng.flag(0.5), u(-0.2, 0.2) * rng.flag(0.3)
        points = (rng.choice([1.0] * 6) + 3).float()
        badge, turned = star(points, u(0.45, 0.8)), u(0.3, 1.0, 6)
        profile = tuple(
            torch.where(kind == STAR, torch.as_tensor(one, device=rng.device), other)
            for one, other in zip(badge, turned.unbind(-1), strict=True)
        )
        shape.add(
            kind, "body" if part == 0 else "", coat, size.unbind(-1), centre.unbind(-1), corner=corner, rounding=edge,
            taper=taper, bulge=bulge, profile=profile, rotation=turn(1, u(0, 6.28)) @ tilted, smooth=smooth,
            operation=torch.where(cut, SUBTRACT, UNION), present=count > part,
        )  # fmt: skip
        centre = centre + u(-0.9, 0.9, 3) * spread
