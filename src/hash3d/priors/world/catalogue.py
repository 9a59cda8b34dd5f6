"""Which things the world holds, in which shares, and how they stand."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Int
from torch import Tensor

from hash3d.priors.world import household, things, toys
from hash3d.priors.world.draws import Draws
from hash3d.priors.world.materials import light, tint
from hash3d.priors.world.objects import Assembly, Objects, turn

CATALOGUE: list[tuple[Callable[[Draws, Assembly], None], float]] = [
    (household.mug, 0.08),
    (household.bottle, 0.10),
    (household.tub, 0.06),
    (household.carton, 0.09),
    (things.fruit, 0.07),
    (things.stapler, 0.04),
    (things.bar, 0.05),
    (things.furniture, 0.03),
    (things.tool, 0.03),
    (things.composition, 0.16),
    (toys.stack, 0.05),
    (toys.mushroom, 0.03),
    (toys.rocket, 0.03),
    (toys.car, 0.04),
    (toys.hat, 0.02),
    (toys.character, 0.05),
    (toys.crown, 0.02),
    (toys.house, 0.03),
    (toys.bust, 0.02),
    (toys.plane, 0.02),
    (toys.ring_toy, 0.03),
]
"""Each kind of thing and its share."""

HELD_OUT = 1 << 30
"""Identities from here on are for evaluation; training draws below."""


def kinds_of(identities: Int[Tensor, " N"], seed: int = 0) -> Int[Tensor, " N"]:
    """The row of the catalogue that each object comes from."""
    return Draws(identities, seed).choice([share for _, share in CATALOGUE])


def draw_objects(identities: Int[Tensor, " N"], seed: int = 0) -> Objects:
    """Object `identities[i]` of world `seed`, for each i; the same on every device and in every batch.

    Bounding spheres about the origin have radii of 0.35 to 0.49, most near the upper end. 84 % stand upright, the rest
    lie or lean; every object is turned about y by any angle.
    """
    kinds = kinds_of(identities, seed)
    draws = Draws(identities, seed + 1)
    groups, order = [], []
    for row, (assemble, _) in enumerate(CATALOGUE):
        chosen = (kinds == row).nonzero()[:, 0]
        if len(chosen) > 0:
            some = draws.select(chosen, row)
            shape = Assembly(len(chosen), identities.device)
            assemble(some, shape)
            groups.append(shape.objects(tint(some), light(some)))
            order.append(chosen)
    objects = Objects.concatenate(groups)[torch.cat(order).argsort()]
    lean = torch.where(draws.flag(0.6), math.pi / 2, draws.uniform(-0.6, 0.6))
    lean = torch.where(draws.flag(0.16), lean, 0.0)
    standing = turn(1, draws.uniform(0, 2 * math.pi)) @ turn(0, lean) @ turn(1, draws.uniform(0, 2 * math.pi))
    radius = torch.where(draws.flag(0.75), draws.uniform(0.46, 0.49), draws.uniform(0.35, 0.49))
    return objects.transformed(standing).normalised(radius)
