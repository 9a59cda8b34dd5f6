"""Which objects the world holds, in which shares, and how they stand.

What the priors are judged on, household objects, boxes with labels and fruit, are functions of their own, with numbers
that hang together; the rest are lines of the tables (`shapes`).
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from . import food, household, kitchen, shapes, solids
from .assembly import Assembly
from .materials import light, tint
from .objects import Objects, turn
from .scenes import SEATS, gather
from .streams import RandomStreams, constant
from .words import NOUNS, TABLES, USUAL

SHARE = (0.0032, 0.009)
"""Of a name of the tables, and of one of USUAL."""
CATALOGUE: list[tuple[str, Callable[[RandomStreams, Assembly], None], float]] = [
    ("bottle", household.bottle, 0.11),
    ("spray bottle", household.spray_bottle, 0.038),
    ("jar", household.jar, 0.045),
    ("tin can", household.tin_can, 0.022),
    ("box", household.box, 0.12),
    ("gift box", household.gift_box, 0.024),
    ("milk carton", household.milk_carton, 0.015),
    ("bucket", household.bucket, 0.012),
    ("soap bar", household.soap_bar, 0.03),
    ("mug", kitchen.mug, 0.085),
    ("cup", kitchen.cup, 0.02),
    ("vase", kitchen.vase, 0.014),
    ("teapot", kitchen.teapot, 0.014),
    ("bowl", kitchen.bowl, 0.014),
    ("stapler", household.stapler, 0.035),
    ("apple", food.apple, 0.04),
    ("pear", food.pear, 0.032),
    ("lemon", food.lemon, 0.028),
    ("ball", solids.solid("ball"), 0.008),
    ("cube", solids.solid("cube"), 0.008),
    ("cylinder", solids.solid("cylinder"), 0.006),
    ("cone", solids.solid("cone"), 0.006),
    ("ring", solids.solid("ring"), 0.006),
    ("star", solids.solid("star"), 0.008),
    ("object", solids.composition, 0.16),
    *((name, shapes.compose(text), SHARE[name in USUAL]) for table in TABLES for name, text in table.items()),
]
"""Each kind of object and its share."""

HELD_OUT = 1 << 30
"""Identities from here on are for evaluation; training samples below."""


def kinds_of(identities: Int[Tensor, " N"], seed: int = 0) -> Int[Tensor, " N"]:
    """The row of the catalogue that each object comes from."""
    return RandomStreams(identities, seed).choice([share for _, _, share in CATALOGUE])


SIMPLE = [row for row, (_, assemble, _) in enumerate(CATALOGUE) if assemble.__module__ == solids.__name__][:6]
SEATED = [row for row, (noun, _, _) in enumerate(CATALOGUE) if noun in SEATS]
SCENES = 0.08
"""Share of the objects that are several: four in ten alike, the others with a relation, a third of these two solids."""


SECOND = 1 << 31
"""Added to an object's identity: that of the one beside it."""


def _any(rng: RandomStreams, rows: Sequence[int]) -> Int[Tensor, " N"]:
    """One of these rows of the catalogue, all alike."""
    return constant(tuple(rows), rng.device, torch.long)[rng.choice([1.0] * len(rows))]


def _build(kinds: Int[Tensor, " N"], rng: RandomStreams) -> Objects:
    """Upright objects of these rows of the catalogue, bounded by spheres of radius 0.47."""
    groups, order = [], []
    for row, (noun, assemble, _) in enumerate(CATALOGUE):
        chosen = (kinds == row).nonzero()[:, 0]
        if len(chosen) > 0:
            some = rng.select(chosen, row)
            shape = Assembly(len(chosen), kinds.device, torch.full_like(chosen, NOUNS.index(noun)))
            assemble(some, shape)
            groups.append(shape.objects(tint(some), light(some)))
            order.append(chosen)
    return Objects.concatenate(groups)[torch.cat(order).argsort()].normalised(rng.full(0.47))


def sample_objects(identities: Int[Tensor, " N"], seed: int = 0, *, posed: bool = True) -> Objects:
    """Object `identities[i]` of world `seed`, for each i; the same on every device and in every batch.

    Bounding spheres about the origin have radii of 0.35 to 0.49, most near the upper end. 84 % stand upright, the front
    towards +z; the rest lie or lean, with the top at most 120 degrees from +z. `posed=False` leaves all upright.
    """
    kinds, rng = kinds_of(identities, seed), RandomStreams(identities, seed + 1)
    several, alike, simple, seated = (rng.flag(share) for share in (SCENES, 0.4, 0.33, 0.6))
    simple = simple & several & ~alike
    seat = torch.where(seated, _any(rng, SEATED), _any(rng, range(len(CATALOGUE))))
    kinds, other = torch.where(simple, _any(rng, SIMPLE), kinds), torch.where(simple, _any(rng, SIMPLE), seat)
    scenes = several.nonzero()[:, 0]
    others = RandomStreams(torch.cat([identities, identities[scenes] + SECOND]), seed + 1)
    objects = _build(torch.cat([kinds, other[scenes]]), others)
    if len(scenes) > 0:
        made = gather(rng.select(scenes, -2), objects[scenes], objects[len(kinds) :], alike[scenes])
        order = torch.arange(len(kinds), device=kinds.device)
        order[scenes] = len(kinds) + torch.arange(len(scenes), device=kinds.device)
        objects = Objects.concatenate([objects[: len(kinds)], made])[order]
    lean = torch.where(rng.flag(0.6), math.pi / 2, rng.uniform(-0.6, 0.6))
    leans = rng.flag(0.16)
    # The bottom of what lies does not come to the front: behind it would be an inside that no picture tells of.
    angles = rng.uniform(-2.1, 2.1), lean, rng.uniform(0, 2 * math.pi)
    first, second, third = (turn(axis, leans * angle) for axis, angle in zip((1, 0, 1), angles, strict=True))
    radius = torch.where(rng.flag(0.75), rng.uniform(0.46, 0.49), rng.uniform(0.35, 0.49))
    return (objects.transformed(first @ second @ third) if posed else objects).normalised(radius)
