"""More shapes of a household: fruit, tools, furniture, bars, and random compositions. Units are arbitrary."""

import torch

from hash3d.priors.world import textures
from hash3d.priors.world.draws import Draws
from hash3d.priors.world.materials import color, material, plain
from hash3d.priors.world.objects import COLUMN, ELLIPSOID, RING, SUBTRACT, UNION, Assembly, turn


def fruit(draws: Draws, shape: Assembly) -> None:
    """Apple, lemon, pear, pumpkin: one or two blended ellipsoids, a dent, a stem, a leaf."""
    u = draws.uniform
    skin = material(
        draws, {textures.PLAIN: 0.5, textures.GRADIENT: 0.25, textures.BLOTCHES: 0.15, textures.STRIPES: 0.1}
    )
    tall = u(0.7, 1.3)
    shape.add(ELLIPSOID, skin, size=(u(0.85, 1.0), tall, u(0.85, 1.0)))
    upper = u(0.35, 0.75)
    shape.add(
        ELLIPSOID,
        skin,
        size=(upper, u(0.4, 0.9), upper),
        centre=(u(-0.1, 0.1), tall * u(0.5, 1.0), u(-0.1, 0.1)),
        smooth=0.4,
        present=draws.flag(0.3),
    )
    stemmed = draws.flag(0.6)
    shape.add(
        ELLIPSOID,
        plain(draws),
        size=(0.3, 0.2, 0.3),
        centre=(0.0, tall + 0.05, 0.0),
        operation=SUBTRACT,
        smooth=0.15,
        present=stemmed & draws.flag(0.4),
    )
    shape.add(
        COLUMN,
        plain(draws),
        size=(0.07, u(0.15, 0.35), 0.07),
        corner=1.0,
        rounding=0.03,
        centre=(0.0, tall + 0.15, 0.0),
        rotation=turn(2, u(-0.4, 0.4)),
        present=stemmed,
    )
    side = u(0.25, 0.45)
    shape.add(
        ELLIPSOID,
        plain(draws),
        size=(side, 0.08, 0.2),
        centre=(side, tall + u(0.1, 0.35), 0.0),
        rotation=turn(2, u(-0.3, 0.7)),
        present=stemmed & draws.flag(0.6),
    )


def stapler(draws: Draws, shape: Assembly) -> None:
    """Two or three long bars that meet at a hinge: staplers, clips, scissors-like tools."""
    u = draws.uniform
    angle, deep = u(0.1, 0.55), u(0.2, 0.45)
    lower, upper = u(0.08, 0.2), u(0.14, 0.3)
    main = plain(draws)
    shape.add(COLUMN, plain(draws, main.colors[:, 0]), size=(1.0, lower, deep), rounding=u(0.01, 0.08))
    rotation = turn(2, angle)
    lift = lower + upper * 0.8
    for thickness, offset, paint in ((upper, 0.0, main), (upper * 0.4, -0.9, plain(draws))):
        across = lift + offset * upper + 0.15
        shape.add(
            COLUMN,
            paint,
            size=(1.0, thickness, deep * (0.95 if offset == 0.0 else 0.7)),
            rounding=u(0.01, 0.1),
            taper=u(-0.05, 0.05),
            rotation=rotation,
            centre=(-1.0 + angle.cos() - across * angle.sin(), angle.sin() + across * angle.cos(), 0.0),
        )
    shape.add(
        COLUMN,
        plain(draws),
        size=(0.2, lower + upper, deep * 0.9),
        rounding=0.05,
        centre=(-0.85, upper, 0.0),
        present=draws.flag(0.6),
    )


def bar(draws: Draws, shape: Assembly) -> None:
    """Soap, pills, remote controls, phones, books: a flat rounded thing, some with a waist or buttons."""
    u = draws.uniform
    deep, flat = u(0.3, 0.9), u(0.12, 0.5)
    body = material(draws)
    corner = torch.where(draws.flag(0.5), u(0.8, 1.0), u(0.0, 0.6))
    shape.add(
        COLUMN,
        body,
        size=(1.0, flat, deep),
        corner=corner,
        rounding=flat * u(0.05, 0.95),
        bulge=u(-0.05, 0.1),
        smooth=0.05,
    )
    waist = draws.flag(0.2)
    for side in (-1.0, 1.0):
        shape.add(
            ELLIPSOID,
            body,
            size=(0.5, 2.0, 0.4),
            centre=(0.0, 0.0, side * (deep + 0.28)),
            operation=SUBTRACT,
            smooth=0.2,
            present=waist,
        )
    buttons, paint, size = draws.flag(0.3), plain(draws), u(0.06, 0.14)
    for step in range(3):
        shape.add(
            COLUMN, paint, size=(size, 0.05, size), corner=1.0, centre=((step - 1.0) * 0.4, flat, 0.0), present=buttons
        )


def furniture(draws: Draws, shape: Assembly) -> None:
    """Tables, stools and chairs."""
    u = draws.uniform
    long, deep, tall, thick = u(0.6, 1.2), u(0.5, 0.9), u(0.4, 0.9), u(0.05, 0.15)
    wood = material(draws, {textures.PLAIN: 0.6, textures.GRADIENT: 0.2, textures.STRIPES: 0.2})
    legs = plain(draws)
    leg = u(0.06, 0.14)
    corner = torch.where(draws.flag(0.4), u(0.9, 1.0), u(0.0, 0.2))
    shape.add(COLUMN, wood, size=(long, thick, deep), corner=corner * 0.6, rounding=0.03, centre=(0.0, tall, 0.0))
    for x in (-1.0, 1.0):
        for z in (-1.0, 1.0):
            shape.add(
                COLUMN,
                legs,
                size=(leg, tall, leg),
                corner=corner,
                taper=0.2,
                centre=(x * (long - 1.6 * leg) * 0.9, 0.0, z * (deep - 1.6 * leg) * 0.9),
            )
    shape.add(
        COLUMN,
        wood,
        size=(long * 0.95, u(0.3, 0.8), 0.07),
        rounding=0.04,
        centre=(0.0, tall + 0.5, 0.06 - deep),
        present=draws.flag(0.6),
    )


def tool(draws: Draws, shape: Assembly) -> None:
    """A handle with a head: hammer, brush, spoon, screwdriver, lollipop, lamp."""
    u = draws.uniform
    thin = u(0.08, 0.18)
    shape.add(
        COLUMN, material(draws), size=(thin, 1.0, thin), corner=1.0, rounding=0.04, taper=u(-0.3, 0.3), bulge=u(0, 0.3)
    )
    head = draws.choice([1.0, 1.0, 1.0])
    paint = material(draws)
    wide, tall = u(0.2, 0.7), u(0.15, 0.4)
    shape.add(
        COLUMN,
        paint,
        size=(wide, tall, u(0.12, 0.4)),
        corner=u(0, 1),
        rounding=u(0.02, 0.1),
        taper=u(-0.4, 0.4),
        centre=(u(-0.2, 0.2), 1.0, 0.0),
        present=head == 0,
    )
    shape.add(ELLIPSOID, paint, size=(wide, u(0.2, 0.6), u(0.1, 0.6)), centre=(0.0, 1.2, 0.0), present=head == 1)
    shape.add(
        COLUMN,
        paint,
        size=(u(0.4, 0.8), u(0.3, 0.5), u(0.4, 0.8)),
        corner=1.0,
        taper=-u(0.1, 0.6),
        centre=(0.0, 1.0, 0.0),
        present=head == 2,
    )
    base = u(0.3, 0.6)
    shape.add(
        COLUMN,
        plain(draws),
        size=(base, 0.06, base),
        corner=1.0,
        rounding=0.03,
        centre=(0.0, -1.0, 0.0),
        present=(head == 2) | draws.flag(0.15),
    )


def composition(draws: Draws, shape: Assembly) -> None:
    """One to five parts of any kind, each placed next to or inside an earlier one; the third is sometimes cut away."""
    u = draws.uniform
    count = draws.choice([0.2, 0.25, 0.25, 0.17, 0.13]) + 1
    shared, centre = color(draws), torch.zeros(len(draws), 3, device=draws.device)
    smooth = torch.where(draws.flag(0.5), u(0.02, 0.3), u(0.0, 0.001))
    spread = torch.tensor([0.8, 1.0, 0.8], device=draws.device)
    for part in range(5):
        kind = torch.tensor([COLUMN, ELLIPSOID, RING], device=draws.device)[draws.choice([0.55, 0.32, 0.13])]
        paint = material(draws, base=torch.where(draws.flag(0.3)[:, None], shared, color(draws)))
        size = u(0.25, 1.0, 3) * (1.0 if part == 0 else 0.75)
        tilted = turn(2, torch.where(draws.flag(0.35), u(-1.6, 1.6), u() * 0))
        cut = draws.flag(0.4 if part == 2 else 0.0)
        shape.add(
            kind,
            paint,
            size=size.unbind(-1),
            corner=torch.where(draws.flag(0.5), u(0.98, 1.0), u(0.0, 0.5)),
            rounding=u(0.04, 0.22),
            taper=u(-0.6, 0.6) * draws.flag(0.5),
            bulge=u(-0.2, 0.2) * draws.flag(0.3),
            centre=centre.unbind(-1),
            rotation=turn(1, u(0, 6.28)) @ tilted,
            smooth=smooth,
            operation=torch.where(cut, SUBTRACT, UNION),
            present=count > part,
        )
        centre = centre + u(-0.9, 0.9, 3) * spread
