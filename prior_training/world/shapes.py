"""Objects told in a line: a small language for parts, and what assembles them.

    guitar: "ball body:wood .5,.45,.12 @0,-.6,0 | -can hole:black .15,.3,.15 @0,-.3,.2 x90 | box neck:brown .06,.6,.05"

Parts stand between bars, in the order in which they are joined. Of each part:

- its kind (`KINDS`), with a minus where it is cut away from what was there before;
- `role:paint`: a role of `words.ROLES` or none, and colours between slashes: names, `_` any, `=` the body's, `~` the
  body's darker, `^` the body's paler; before a star a pattern of `PAINTS` ("spots*red/white");
- half sizes x,y,z (a RING's: of the middle of its tube in x and y, and the tube's radius), or one for all three;
- `@x,y,z`: its centre. `a~b` in place of any number is a number between them;
- `x30` `y30` `z30`: turns about the axes in degrees, in the order given;
- `s` radius of the blend, `t` taper, `b` bulge, `r` rounding, `c` corner (`Assembly.add`); `n` points and `i` dents of
  a star; `p` six digits, ninths, of a lathe's profile;
- `m` also mirrored in x; `q` in x, z and both; `o5` five copies about the y axis; `l4,0,.3,0` four copies in a row;
- `?.3` there with that probability; `?a` in half of the objects, `!a` in the others.

Every object is stretched along x, y and z by up to 15 %, and every part made up to 3 % larger or smaller.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from . import textures
from .assembly import Assembly
from .materials import LABELLED, PLAIN_WEIGHTS, WOODEN, color, marked, material, paint
from .objects import COLUMN, ELLIPSOID, LATHE, RING, STAR, SUBTRACT, UNION, Material, star, turn
from .streams import RandomStreams, constant
from .words import COLORS

KINDS: dict[str, tuple[int, dict[str, float]]] = {
    "ball": (ELLIPSOID, {}),
    "box": (COLUMN, {"c": 0.1, "r": 0.12}),
    "can": (COLUMN, {"c": 1.0, "r": 0.12}),
    "pill": (COLUMN, {"c": 1.0, "r": 0.95}),
    "cone": (COLUMN, {"c": 1.0, "t": -0.9, "r": 0.1}),
    "pyramid": (COLUMN, {"t": -0.9, "r": 0.05}),
    "ring": (RING, {"c": 1.0}),
    "star": (STAR, {"n": 5.0, "i": 0.45, "r": 0.2}),
    "lathe": (LATHE, {"r": 0.05}),
}
"""What a kind of part is, and its usual options; a rounding is a share of the smallest half size."""
PAINTS: dict[str, dict[int, float] | None] = {
    "plain": PLAIN_WEIGHTS,
    "wood": WOODEN,
    "label": LABELLED,
    "print": None,
    "fur": {textures.PLAIN: 0.7, textures.PATCHES: 0.2, textures.NOISE: 0.1},
    "skin": {textures.PLAIN: 0.6, textures.GRADIENT: 0.2, textures.NOISE: 0.2},
    "bricks": {textures.BRICKS: 0.6, textures.PLAIN: 0.4},
    "stripes": {textures.STRIPES: 0.8, textures.PLAIN: 0.2},
    "spots": {textures.DOTS: 0.5, textures.SPECKLE: 0.3, textures.PLAIN: 0.2},
    "patches": {textures.PATCHES: 0.8, textures.PLAIN: 0.2},
    "checks": {textures.CHECKS: 0.7, textures.PLAIN: 0.3},
    "logo": {textures.LOGO: 0.6, textures.PLAIN: 0.4},
}
"""Patterns of a paint (`materials.material`). Besides there are "face", with eyes, and "belly", pale in front."""
STRETCH, VARY = 0.15, 0.03


@dataclass(frozen=True)
class Piece:
    """One part of the text."""

    kind: str
    operation: int
    role: str
    paint: str
    size: tuple[str, ...]
    centre: tuple[str, ...] = ("0", "0", "0")
    turns: tuple[tuple[int, str], ...] = ()
    options: dict[str, str] = field(default_factory=dict)


@functools.cache
def read(text: str) -> tuple[Piece, ...]:
    """The parts of a text. Raises `ValueError` for a kind or an option that there is not."""
    pieces = []
    for part in text.split("|"):
        kind, told, size, *rest = part.split()
        role, _, coat = told.partition(":")
        centre: tuple[str, ...] = ("0", "0", "0")
        turns, options = [], {}
        for word in rest:
            if word[0] == "@":
                centre = tuple(word[1:].split(","))
            elif word[0] in "xyz":
                turns.append(("xyz".index(word[0]), word[1:]))
            elif word[0] in "stbrcnipmqol?!":
                options[word[0]] = word[1:]
            else:
                raise ValueError(f"Expected an option of {__name__}, but got {word!r} in {part!r}.")
        if kind.removeprefix("-") not in KINDS or len(centre) != 3 or size.count(",") not in (0, 2):
            raise ValueError(
                f"Expected a kind ({', '.join(KINDS)}), one or three sizes and a centre, but got {part!r}."
            )
        operation = SUBTRACT if kind[0] == "-" else UNION
        sizes = tuple(size.split(",")) * (3 if "," not in size else 1)
        pieces.append(Piece(kind.removeprefix("-"), operation, role, coat, sizes, centre, tuple(turns), options))
    return tuple(pieces)


def number(rng: RandomStreams, text: str) -> Float[Tensor, " N"] | float:
    """The number or sum ("1.2-.4"), or for "a~b" one between a and b for each object."""
    low, *high = (sum(map(float, re.findall(r"[+-]?[^+-]+", end))) for end in text.split("~"))
    return rng.uniform(low, high[0]) if high else low


def _vector(rng: RandomStreams, texts: tuple[str, ...]) -> Float[Tensor, "N 3"]:
    values = [number(rng, text) for text in texts]
    if not any(isinstance(value, Tensor) for value in values):
        return constant(tuple(values), rng.device).expand(len(rng), 3)
    return torch.stack([value if isinstance(value, Tensor) else rng.full(value) for value in values], dim=-1)


Turns = tuple[tuple[int, Tensor | float], ...]


def _rotation(turns: Turns, device: torch.device) -> Float[Tensor, "M 3 3"]:
    """Turns about axes by degrees, one after the other; M is 1 where they are the same for all objects."""
    total = torch.eye(3, device=device)[None]
    for axis, angle in turns:
        total = turn(axis, torch.deg2rad(torch.as_tensor(angle, device=device).view(-1))) @ total
    return total


_same_rotation = functools.cache(_rotation)


def _color(rng: RandomStreams, names: list[str], body: Tensor | None) -> Float[Tensor, "N 3"]:
    found = color(rng, " ".join(name for name in names if name in COLORS))
    if body is None:
        return found
    for place, sign in enumerate("=~^"):
        if sign in names:
            own = (body, 0.7 * body, 0.5 * body + 0.5)[place]
            found = torch.where(rng.flag(names.count(sign) / len(names))[:, None], own, found)
    return found


def coat(rng: RandomStreams, text: str, body: Tensor | None) -> Material:
    """The material of a paint; `body`: the body's first colour."""
    pattern, _, names = text.rpartition("*")
    base = _color(rng, names.split("/"), body)
    if pattern in ("face", "belly"):
        pale = torch.where(rng.flag(0.7)[:, None], 0.45 * base + 0.55, color(rng))
        return marked(rng, base, base if pattern == "face" else pale, eyes=pattern == "face", low=-0.1)
    return material(rng, PAINTS[pattern], base) if pattern else paint(rng, base=base)


def _copies(piece: Piece) -> list[tuple[int, int, float, tuple[float, ...]]]:
    """Signs of x and z, the turn about y in degrees and the shift of each copy."""
    options, none = piece.options, (0.0, 0.0, 0.0)
    if "o" in options:
        count = int(options["o"])
        return [(1, 1, 360 * place / count, none) for place in range(count)]
    if "l" in options:
        number_, *step = (float(each) for each in options["l"].split(","))
        return [(1, 1, 0.0, tuple(place * each for each in step)) for place in range(int(number_))]
    ends = (1, -1) if "q" in options else (1,)
    return [(x, z, 0.0, none) for x in ((1, -1) if "q" in options or "m" in options else (1,)) for z in ends]


def _round(piece: Piece, stretch: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
    """The stretch of a part along its own axes; where it is round, it stays so."""
    for kinds, axes in (((COLUMN, LATHE), [0, 2]), ((RING,), [0, 1]), ((ELLIPSOID,), [0, 1, 2])):
        if KINDS[piece.kind][0] in kinds and len({piece.size[axis] for axis in axes}) == 1:
            stretch = stretch.clone()
            stretch[:, axes] = stretch[:, axes].log().mean(-1, keepdim=True).exp()
    return stretch


def _add(
    rng: RandomStreams, shape: Assembly, piece: Piece, material_: Material, stretch: Tensor, vary: Tensor, there: Any
) -> None:
    """All copies of one part, `vary` times its size."""
    kind, usual = KINDS[piece.kind]
    given = {name: number(rng, piece.options[name]) for name in "stbcnir" if name in piece.options}
    chosen: dict[str, Any] = {name: given.get(name, usual.get(name, 0.0)) for name in "stbcnir"}
    size, centre = _vector(rng, piece.size) * vary, _vector(rng, piece.centre)
    if piece.kind in ("cone", "pyramid"):
        size[:, [0, 2]] /= (rng.full(1.0) - chosen["t"])[:, None]  # The size is that of the foot.
    angles = tuple((axis, number(rng, angle)) for axis, angle in piece.turns)
    profile: object = 1.0
    if kind == LATHE:
        profile = tuple(int(digit) / 9 for digit in piece.options["p"])
    elif kind == STAR:
        profile = star(chosen["n"], chosen["i"])
    fixed = not any(isinstance(angle, Tensor) for _, angle in angles)
    for x, z, about, shift in _copies(piece):
        turns = (*((axis, angle * (z, x * z, x)[axis]) for axis, angle in angles), *([(1, about)] if about else []))
        at, rotation, own = centre * constant((x, 1, z), rng.device) + constant(shift, rng.device), None, stretch
        if turns:
            rotation = (_same_rotation if fixed else _rotation)(turns, rng.device).expand(len(rng), 3, 3)
            own = (rotation * stretch[:, :, None]).norm(dim=1)
        if about:
            at = at @ _same_rotation(((1, about),), rng.device)[0].T
        half = size * _round(piece, own)
        thin = half[:, 2] if kind == RING else given.get("r", chosen["r"] * half.amin(-1))
        shape.add(
            kind, piece.role, material_, half.unbind(-1), (at * stretch).unbind(-1), rotation=rotation,
            corner=chosen["c"], taper=chosen["t"], bulge=chosen["b"], rounding=thin, smooth=chosen["s"],
            profile=profile, operation=piece.operation, present=there,
        )  # fmt: skip


def compose(text: str) -> Callable[[RandomStreams, Assembly], None]:
    """A function that assembles what the text tells."""

    def assemble(rng: RandomStreams, shape: Assembly) -> None:
        parts = read(text)
        stretch = rng.uniform(1 - STRETCH, 1 + STRETCH, 3)
        first = next(piece for piece in parts if piece.role == "body")
        main = coat(rng, first.paint, None)
        whole = rng.uniform(1 - VARY, 1 + VARY, 1)  # A hollow is as large as its body, so that walls stay.
        flags: dict[str, Tensor] = {}
        for piece in parts:
            own = main if piece is first else coat(rng, piece.paint, main.colors[:, 0])
            there: Tensor | bool = True
            for sign in "?!":
                if name := piece.options.get(sign):
                    if name not in flags or name[0] in ".01":
                        flags[name] = rng.flag(float(name) if name[0] in ".01" else 0.5)
                    there = flags[name] if sign == "?" else ~flags[name]
            vary = whole if piece is first or piece.operation == SUBTRACT else rng.uniform(1 - VARY, 1 + VARY, 1)
            _add(rng, shape, piece, own, stretch, vary, there)

    return assemble
