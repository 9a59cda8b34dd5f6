"""Simple solids and random compositions. Units are arbitrary."""

from collections.abc import Callable

import torch

from .assembly import Assembly
from .materials import color, material
from .objects import COLUMN, ELLIPSOID, LATHE, RING, STAR, SUBTRACT, UNION, star, turn
from .streams import RandomStreams

SOLIDS = ("ball", "cube", "cylinder", "cone", "ring", "star", "box")


def solid(name: str) -> Callable[[RandomStreams, Assembly], None]:
    """A function that assembles single solids of one name."""

    def assemble(rng: RandomStreams, shape: Assembly) -> None:
        u, half = rng.uniform, rng.full(1.0)
        thick, which = u(0.22, 0.4), SOLIDS.index(name)
        wide = {"cylinder": u(0.5, 0.85), "cone": 0.42 * half, "box": u(1.2, 1.7)}.get(name, half)
        tall = u(0.6, 1.0) if name == "box" else half
        deep = {"star": thick, "box": u(0.7, 1.1)}.get(name, wide)
        ring = name == "ring"
        tube = thick if ring else half * (0.0, 0.06, 0.06, 0.03, 0.0, 0.12, 0.04)[which]
        shape.add(
            (ELLIPSOID, COLUMN, COLUMN, COLUMN, RING, STAR, COLUMN)[which], "body", material(rng),
            (wide - thick * ring, tall - thick * ring, deep), rounding=tube,
            corner=float(name in ("cylinder", "cone", "ring")), taper=-0.92 * (name == "cone"), profile=star(5.0, 0.45),
        )  # fmt: skip

    return assemble


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
        coat = material(rng, base=torch.where(rng.flag(0.8)[:, None], shared, color(rng)))  # Behind, most go on alike.
        size = u(0.25, 1.0, 3) * (1.0 if part == 0 else 0.75)
        thin = 1 - 0.85 * (rng.flag(0.25) & (kind == COLUMN)).float()  # A rod, a leg, a neck.
        size = torch.stack([size[:, 0] * thin, size[:, 1], size[:, 2] * thin], dim=-1)
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
