"""What an object is, read off its parts, and captions that say it in many wordings."""

import random as randomness
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from . import textures
from .objects import NONE, UNION, Objects
from .words import COLORS, NOUNS, RELATIONS, ROLES, color_names

PLACED = {"saucer": "on", "stand": "on", "pot": "in"}
"""Roles that the object stands on or in; it is "with" the others."""
USUAL = ("head", "ear", "arm", "leg", "tail", "wing", "foot", "brim", "snout", "tower", "spine", "neck")
"""Roles that go without saying where they have the body's colour."""
COUNTS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "many")
PATTERNS = {
    textures.STRIPES: "stripes",
    textures.CHECKS: "checks",
    textures.GRADIENT: "gradient",
    textures.BLOTCHES: "blotches",
    textures.LABEL: "label",
    textures.DOTS: "dots",
    textures.BAND: "band",
    textures.SPLIT: "split",
    textures.PATCHES: "patches",
    textures.ZIGZAG: "zigzag",
    textures.LOGO: "logo",
    textures.NOISE: "mottled",
    textures.SPECKLE: "speckles",
    textures.BRICKS: "bricks",
    textures.WRAP: "label",
}
"""What a pattern of the body is called; FACE is told as "belly", WOOD as a material."""
SIZES = ("", "tall", "flat", "long", "wide", "small", "large")
MATERIALS = ("", "shiny", "metal", "wooden", "matte")


@dataclass(frozen=True, kw_only=True)
class Part:
    """Parts of one role: how many, and their colour ("" where they differ)."""

    count: int
    color: str
    role: str


@dataclass(frozen=True, kw_only=True)
class Description:
    """The facts that captions state; an empty string for what an object has not."""

    noun: str
    color: str
    """First colour of the body."""
    pattern: str = ""
    """A value of PATTERNS; its second colour is `second_color`."""
    second_color: str = ""
    material: str = ""
    """One of MATERIALS."""
    size: str = ""
    """One of SIZES, by the bounding box and the radius of the bounding sphere."""
    parts: tuple[Part, ...] = ()
    """Of one; several objects' are not told."""
    count: int = 1
    relation: str = ""
    """One of RELATIONS: how the object stands relative to a second one, seen from the front."""
    other_noun: str = ""
    other_color: str = ""


def _sizes(objects: Objects) -> Tensor:
    """Index into SIZES. Widths over the ground are measured in twelve directions, so that a turn about y is none."""
    points = objects.outline()
    solid = ((objects.kind != NONE) & (objects.operation == UNION))[..., None]
    angle = torch.arange(12, device=points.device) * (torch.pi / 12)
    across = points[..., 0, None] * angle.cos() + points[..., 2, None] * angle.sin()
    reach = torch.cat([points[..., 1:2], across], dim=-1)
    high = torch.where(solid[..., None], reach, -torch.inf).amax((1, 2))
    low = torch.where(solid[..., None], reach, torch.inf).amin((1, 2))
    tall, wide, narrow = (high - low)[:, 0], (high - low)[:, 1:].amax(1), (high - low)[:, 1:].amin(1)
    radius = torch.where(solid, points.norm(dim=-1), 0.0).amax((1, 2))
    rules = (
        (radius > 0.482, "large"),
        (radius < 0.42, "small"),
        (wide > 1.8 * tall, "wide"),
        (wide > 2.2 * torch.maximum(narrow, tall), "long"),
        (tall < 0.4 * narrow, "flat"),
        (tall > 1.6 * wide, "tall"),
    )
    size = torch.zeros(len(objects), dtype=torch.long, device=points.device)
    for here, name in rules:
        size = torch.where(here, SIZES.index(name), size)
    return size


def _materials(objects: Objects, body_pattern: Tensor, body_color: Tensor) -> Tensor:
    """Index into MATERIALS: by the pattern of the body, the highlight and the colour."""
    gloss = objects.light[:, 5] > 0.1
    grey = gloss & (body_color == COLORS.index("grey"))
    found = torch.where(gloss, MATERIALS.index("shiny"), MATERIALS.index("matte"))
    found = torch.where(grey, MATERIALS.index("metal"), found)
    return torch.where(body_pattern == textures.WOOD, MATERIALS.index("wooden"), found)


def describe(objects: Objects) -> list[Description]:
    """The facts of each object; one transfer to the host for the whole batch."""
    colors = color_names(objects.colors)
    here = objects.kind != NONE
    body = ((objects.role == ROLES.index("body")) & here).int().argmax(1)
    rows = torch.arange(len(objects), device=body.device)
    pattern, named = objects.pattern[rows, body], colors[rows, body]
    # A hollow belongs to the facts where it has a role ("inside"), a cut without one does not.
    roles = torch.where(here, objects.role, 0)
    whole = (objects.noun, objects.relation, objects.other, objects.count)
    single = torch.stack([*whole, _sizes(objects), pattern, named[:, 0], named[:, 1]], dim=1)
    made = _materials(objects, pattern, named[:, 0])
    table = torch.cat([single, made[:, None], roles, colors[..., 0], objects.pattern], dim=1)
    return [_description(row, objects.kind.shape[1]) for row in table.tolist()]


def _description(row: list[int], count: int) -> Description:
    noun, relation, other, alike, size, pattern, color, second, made = row[:9]
    roles, colors = row[9 : 9 + count], row[9 + count : 9 + 2 * count]
    found: dict[str, list[int]] = {}
    for role, name in zip(roles, colors, strict=True):
        if ROLES[role] not in ("", "body") and not (ROLES[role] in USUAL and name == color):
            found.setdefault(ROLES[role], []).append(name)
    others = found.pop("other", [])
    parts = [
        Part(count=len(names), color=COLORS[names[0]] if len(set(names)) == 1 else "", role=role)
        for role, names in found.items()
    ]
    if pattern == textures.FACE and second != color:
        parts.append(Part(count=1, color=COLORS[second], role="belly"))
    known = PATTERNS.get(pattern, "") if second != color else ""
    return Description(
        noun=NOUNS[noun],
        color=COLORS[color],
        pattern=known,
        second_color=COLORS[second] if known else "",
        material=MATERIALS[made],
        size=SIZES[size] if alike == 1 and not relation else "",
        parts=tuple(parts) if alike == 1 else (),
        count=alike,
        relation=RELATIONS[relation],
        other_noun=NOUNS[other] if relation else "",
        other_color=COLORS[others[0]] if relation and others else "",
    )


# How a pattern is said before the noun ({} is the body's and the second colour) and after it.
BEFORE = {
    "stripes": ("{0} and {1} striped",),
    "checks": ("{0} and {1} checked", "{0} and {1} checkered"),
    "dots": ("{0} {1}-dotted",),
    "split": ("{0} and {1}", "two colored {0} and {1}"),
    "gradient": ("{0} and {1}",),
    "blotches": ("{0} and {1} marbled",),
    "patches": ("{0} and {1} patched",),
    "zigzag": ("{0} and {1} zigzag",),
    "mottled": ("{0} and {1} mottled",),
    "speckles": ("{0} and {1} speckled",),
}
AFTER = {
    "stripes": ("with {1} stripes", "with stripes of {1}"),
    "checks": ("with {1} checks",),
    "dots": ("with {1} dots", "with {1} spots"),
    "split": ("with a {1} part",),
    "gradient": ("fading to {1}",),
    "blotches": ("with {1} swirls",),
    "patches": ("with {1} patches",),
    "zigzag": ("with {1} zigzag lines",),
    "label": ("with a {1} label", "with a {1} label and text"),
    "logo": ("with a {1} logo", "with a {1} sign on it"),
    "band": ("with a {1} band",),
    "speckles": ("with {1} speckles",),
    "bricks": ("made of bricks", "made of bricks with {1} joints"),
}
OPENINGS = ("", "", "", "", "a picture of", "a photo of", "an image of", "a 3d model of", "a render of")


def _article(words: str) -> str:
    if words.endswith((*PLURALS, "hair")):
        return words
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


PLURALS = (
    "scissors",
    "pliers",
    "glasses",
    "trousers",
    "headphones",
    "grapes",
    "fries",
    "pancakes",
    "toy blocks",
    "dice",
)
"""Nouns that take no article."""
IRREGULAR = {
    **{"foot": "feet", "mouse": "mice", "man": "men", "woman": "women", "snowman": "snowmen"},
    **{name: name for name in ("sheep", "deer", "fish", *PLURALS)},
}


def _plural(noun: str) -> str:
    """Of the last word: "two teddy bears", "four leaves", "three cherries"."""
    first, _, last = noun.rpartition(" ")
    if noun in IRREGULAR or last in IRREGULAR:
        return IRREGULAR.get(noun) or f"{first} {IRREGULAR[last]}".strip()
    for end, many in (("fe", "ves"), ("lf", "lves"), ("af", "aves"), ("rf", "rves"), ("y", "ies")):
        if noun.endswith(end) and noun[-2:] not in ("ay", "ey", "oy"):
            return noun.removesuffix(end) + many
    return noun + ("es" if noun.endswith(("ch", "sh", "s", "x", "ato")) else "s")


def _part(part: Part) -> str:
    """For instance "a blue handle", "four black wheels", "five layers"."""
    words = f"{part.color} {part.role if part.count == 1 else _plural(part.role)}".strip()
    return _article(words) if part.count == 1 else f"{COUNTS[min(part.count, 11)]} {words}"


def _with(parts: Sequence[Part], random: randomness.Random, *, following: bool) -> str:
    """For instance "with a blue handle and two red eyes on a white saucer"; `following`: go on with "and"."""
    placed = [f"{PLACED[part.role]} {_part(part)}" for part in parts if part.role in PLACED]
    held = [_part(part) for part in parts if part.role not in PLACED and (part.role != "inside" or part.color)]
    random.shuffle(held)
    opening = "and" if following else random.choice(("with", "with", "with", "that has"))
    return " ".join(([f"{opening} {' and '.join(held)}"] if held else []) + placed)


def caption(description: Description, random: randomness.Random, *, full: bool = False) -> str:
    """One of many wordings of a random part of the facts, all lower case; `full` always states noun and colour."""
    one, chance = description, random.random
    colored = full or chance() < 0.93
    patterned = bool(one.pattern) and colored and chance() < 0.8
    before = patterned and one.pattern in BEFORE and (one.pattern not in AFTER or chance() < 0.5)
    first = random.choice(BEFORE[one.pattern]).format(one.color, one.second_color) if before else one.color
    size = one.size if one.size and chance() < 0.4 else ""
    often = {"matte": 0.08, "shiny": 0.5, "metal": 0.6, "wooden": 0.85, "": 0.0}
    made = one.material if chance() < often[one.material] else ""
    tail = colored and not before and chance() < 0.12
    noun = one.noun if one.count == 1 else _plural(one.noun)
    words = " ".join(each for each in (size, made, "" if tail or not colored else first, noun) if each)
    pieces = [_article(words) if one.count == 1 else f"{COUNTS[one.count]} {words}"]
    if tail:
        pieces = [f"{pieces[0]}, {first}," if chance() < 0.5 else f"{pieces[0]} in {first}"]
    elif colored and not before and not size and one.count == 1 and chance() < 0.06:
        pieces = [f"{_article(f'{made} {one.noun}'.strip())} that is {first}"]
    if patterned and not before:
        pieces.append(random.choice(AFTER[one.pattern]).format(one.color, one.second_color))
    wanted = min(len(one.parts), random.choice((0, 1, 1, 1, 2, 2, 3)))
    parts = random.sample(one.parts, wanted)
    if parts:
        phrase = _with(parts, random, following=patterned and not before)
        pieces.append(phrase)
    if one.relation and (full or chance() < 0.9):
        pieces.append(f"{one.relation} {_article(f'{one.other_color} {one.other_noun}')}")
    opening = random.choice(OPENINGS)
    said = " ".join(each for each in (opening, *pieces) if each).strip().rstrip(",")
    words_said = said.split()
    if len(words_said) < 4:
        said = f"{random.choice(('a picture of', 'an image of', 'a render of'))} {said}"
    return said if len(words_said) <= 24 else caption(one, random, full=full)


def _words(*phrases_: str) -> tuple[str, ...]:
    """Every word of every wording, and of other phrases."""
    phrases: list[str] = [*NOUNS, *COLORS, *RELATIONS, *SIZES, *MATERIALS, *COUNTS, *OPENINGS, *PLACED.values(), *ROLES]
    phrases += [*map(_plural, ROLES[1:]), *phrases_]
    for table in (BEFORE, AFTER):
        phrases += [each.replace("{0}", " ").replace("{1}", " ") for wordings in table.values() for each in wordings]
    phrases += ["a an the with that has and is in", "a picture of an image of a render of"]
    phrases += [f"{color}-dotted" for color in COLORS]
    return tuple(sorted({word.strip(",") for phrase in phrases for word in phrase.split()} - {"-dotted", "no"}))


WORDS: tuple[str, ...] = _words(*map(_plural, NOUNS))
"""Every word that a caption can contain, without commas."""
WHOLE: tuple[str, ...] = _words()
"""Those that are one token each: all but the nouns' plurals, whose pieces take a quarter less of the embedding."""


def vocabulary() -> dict[str, list[str]]:
    """The words by their kind, as `hash3d words` shows them."""
    patterns = (wordings[0].split()[-1].split("-")[-1] for wordings in BEFORE.values())
    return {
        "nouns": list(NOUNS[1:]),
        "colours": list(COLORS),
        "patterns": [word for word in patterns if "{" not in word],
        "materials": list(MATERIALS[1:]),
        "sizes": list(SIZES[1:]),
        "parts": list(ROLES[3:]),
        "relations": list(RELATIONS[1:]),
        "counts": [COUNTS[count] for count in range(2, 4)],
    }
