"""Several objects in one: two or three alike, or one on, beside, in front of or behind another. All upright."""

import dataclasses

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from .objects import NONE, PARTS, SUBTRACT, UNION, Objects, turn
from .streams import RandomStreams
from .words import NOUNS, RELATIONS, ROLES

SEATS = {
    **dict.fromkeys(("table", "box", "stool", "bed", "bench", "sofa", "cube", "cylinder"), "body"),
    **dict.fromkeys(("gift box", "desk", "skateboard", "drum", "chest", "cake", "cart"), "body"),
    "chair": "seat",
    "armchair": "cushion",
}
"""What something may stand on, and the part on whose upper side it does."""
BESIDE, IN_FRONT, BEHIND, ON = (RELATIONS.index(each) for each in ("beside", "in front of", "behind", "on"))
GAP = 1.06


def box(objects: Objects, chosen: Bool[Tensor, "N P"]) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
    """Lowest and highest coordinates of the chosen parts; infinite where there are none."""
    points, here = objects.outline(), chosen[:, :, None, None]
    return torch.where(here, points, torch.inf).amin((1, 2)), torch.where(here, points, -torch.inf).amax((1, 2))


def _solid(objects: Objects) -> Bool[Tensor, "N P"]:
    return (objects.kind != NONE) & (objects.operation == UNION)


def _meet(first: Objects, second: Objects) -> Bool[Tensor, " N"]:
    """Where a hollow of one reaches into the box of a part of the other."""
    (cut_low, cut_high), (low, high) = (
        (points.amin(2), points.amax(2)) for points in (first.outline(), second.outline())
    )
    hollow = (first.kind != NONE) & (first.operation == SUBTRACT)
    meet = ((cut_low[:, :, None] < high[:, None]) & (cut_high[:, :, None] > low[:, None])).all(-1)
    return (meet & hollow[:, :, None] & _solid(second)[:, None]).any((1, 2))


def join(group: list[Objects]) -> tuple[Objects, Bool[Tensor, " N"]]:
    """All objects in one, and where that is true: they have at most PARTS parts, and no hollow cuts another object."""
    parts = {
        each.name: torch.cat([getattr(one, each.name) for one in group], dim=1)
        for each in dataclasses.fields(Objects)
        if getattr(group[0], each.name).shape[1:2] == (PARTS,)
    }
    order = (parts["kind"] == NONE).int().argsort(dim=1, stable=True)[:, :PARTS]
    rows = torch.arange(len(order), device=order.device)[:, None]
    joined = dataclasses.replace(group[0], **{name: value[rows, order] for name, value in parts.items()})
    fits = (parts["kind"] != NONE).sum(1) <= PARTS
    for first in group:
        for second in group:
            fits = fits & (~_meet(first, second) | (first is second))
    return joined, fits


def _moved(objects: Objects, shift: Tensor, scale: Tensor) -> Objects:
    """Scaled about the origin, then moved."""
    names = ("size", "corner", "rounding", "smooth")
    grown = {name: getattr(objects, name) * scale.view(-1, *[1] * (getattr(objects, name).ndim - 1)) for name in names}
    return dataclasses.replace(objects, centre=objects.centre * scale[:, None, None] + shift[:, None], **grown)


def _choose(fits: Tensor, first: Objects, second: Objects) -> Objects:
    """The first where it fits, else the second."""
    names = [each.name for each in dataclasses.fields(Objects)]
    pairs = {name: (getattr(first, name), getattr(second, name)) for name in names}
    return Objects(**{name: torch.where(fits.view(-1, *[1] * (a.ndim - 1)), a, b) for name, (a, b) in pairs.items()})


def repeat(rng: RandomStreams, objects: Objects) -> Objects:
    """Two or three of each in a row, a little turned; one where they do not fit."""
    low, high = box(objects, _solid(objects))
    step, one = GAP * (high - low)[:, 0], torch.ones(len(rng), device=rng.device)
    three = rng.flag(0.4)
    group = []
    for place in range(3):
        shift = torch.stack([(place - 0.5 * (1 + three)) * step, 0 * step, rng.uniform(-0.1, 0.1)], dim=-1)
        copy = _moved(objects.transformed(turn(1, rng.uniform(-0.2, 0.2))), shift, one)
        there = three | (place < 2)
        group.append(dataclasses.replace(copy, kind=torch.where(there[:, None], copy.kind, NONE)))
    joined, fits = join(group)
    return _choose(fits, dataclasses.replace(joined, count=2 + three.long()), objects)


def relate(rng: RandomStreams, first: Objects, second: Objects) -> Objects:
    """The first on, beside, in front of or behind the second; alone where they do not fit."""
    low, high = box(first, _solid(first))
    below, above = box(second, _solid(second))
    seats = torch.tensor([ROLES.index(SEATS.get(noun, "")) for noun in NOUNS], device=rng.device)[second.noun]
    seat = (second.role == seats[:, None]) & _solid(second) & (seats > 0)[:, None]
    seat_low, seat_high = box(second, seat)
    on = seat.any(1) & rng.flag(0.75)
    relation = torch.where(
        on, ON, torch.tensor([BESIDE, IN_FRONT, BEHIND], device=rng.device)[rng.choice([0.5, 0.25, 0.25])]
    )
    wide, room = (high - low)[:, [0, 2]].amax(1), (seat_high - seat_low)[:, [0, 2]].amin(1)
    scale = torch.where(on, rng.uniform(0.7, 1.0) * room / wide, rng.uniform(0.75, 1.3)).clamp(0.2, 2.0)
    low, high = low * scale[:, None], high * scale[:, None]
    middle, there = 0.5 * (low + high), 0.5 * (below + above)
    apart = 0.5 * GAP * (high - low + above - below)
    side, none = torch.where(rng.flag(0.5), 1.0, -1.0), torch.zeros_like(wide)
    shift = there - middle
    shift[:, 1] = torch.where(on, seat_high[:, 1].nan_to_num(0, 0, 0) - low[:, 1], below[:, 1] - low[:, 1])
    shift[:, 0] += torch.where(relation == BESIDE, side * apart[:, 0], none)
    shift[:, 2] += torch.where(relation == IN_FRONT, apart[:, 2], torch.where(relation == BEHIND, -apart[:, 2], none))
    at_seat = (0.5 * (seat_low + seat_high) - middle).nan_to_num(0, 0, 0)
    shift[:, [0, 2]] = torch.where(on[:, None], at_seat[:, [0, 2]], shift[:, [0, 2]])
    role = torch.where(second.role == ROLES.index("body"), ROLES.index("other"), 0)
    joined, fits = join([_moved(first, shift, scale), dataclasses.replace(second, role=role)])
    return _choose(fits, dataclasses.replace(joined, relation=relation, other=second.noun), first)


def gather(rng: RandomStreams, first: Objects, second: Objects, alike: Int[Tensor, " N"]) -> Objects:
    """Several like the first where `alike`, else the first with the second."""
    return _choose(alike.bool(), repeat(rng, first), relate(rng, first, second))
