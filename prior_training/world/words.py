"""Names of objects, of their parts and of colours."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from . import table_animals, table_food, table_places, table_things

TABLES = (table_animals.TABLE, table_food.TABLE, table_places.TABLE, table_things.TABLE)

USUAL: tuple[str, ...] = (
    "object",
    *("mug", "cup", "bottle", "spray bottle", "jar", "tin can", "box", "gift box", "milk carton", "soap bar"),
    *("stapler", "bucket", "vase", "teapot", "bowl", "goblet", "candle"),
    *("apple", "pear", "lemon", "pumpkin", "burger", "cake", "ice cream", "doughnut"),
    *("mushroom", "tree", "cactus", "flower"),
    *("teddy bear", "penguin", "snowman", "robot", "crown", "hat", "rocket", "statue"),
    *("dog", "cat", "pig", "cow", "duck", "fish"),
    *("car", "bus", "truck", "aeroplane", "boat", "house", "castle"),
    *("chair", "table", "sofa", "lamp", "hammer", "spoon", "book", "phone", "television", "camera", "clock"),
    *("ball", "cube", "cylinder", "cone", "ring", "star", "gear"),
)
"""The names that are drawn most often."""

NOUNS: tuple[str, ...] = tuple(dict.fromkeys([*USUAL, *(name for table in TABLES for name in table)]))
"""Names of objects; an object's `noun` is an index into it. The first is the random composition.

New ones come last, so that a matcher of fewer nouns keeps its numbers."""

COLORS: tuple[str, ...] = (
    *("red", "orange", "brown", "yellow", "green", "turquoise"),
    *("blue", "purple", "pink", "white", "grey", "black"),
)

ROLES: tuple[str, ...] = (
    *("", "body", "other"),
    *("handle", "lid", "cap", "inside", "drink", "saucer", "label", "ribbon", "bow", "spout", "trigger", "neck"),
    *("stem", "leaf", "flower", "middle", "candle", "flame", "top", "base", "stand", "layer", "filling", "cherry"),
    *("cone", "scoop", "glaze", "pot"),
    *("trunk", "head", "face", "belly", "snout", "beak", "nose", "ear", "arm", "foot", "wing"),
    *("tail", "fin", "scarf", "hat", "antenna", "ball", "band", "brim", "eye", "window", "wheel", "roof"),
    *("door", "chimney", "light", "cabin", "sail", "mast", "tower", "leg", "trailer", "cushion", "shade"),
    *("screen", "button", "lens", "flash", "hand", "page", "spine", "knob", "hole", "stripe", "rim", "seat"),
    *("feather", "engine", "propeller", "drawer"),
    *("mane", "horn", "hump", "beard", "hair", "claw", "sword", "shield", "staff", "seed", "root", "fruit", "sauce"),
    *("pedal", "tip", "deck", "basket", "back", "side", "mirror", "tap", "lock", "string", "net"),
)
"""What a part is: "" is never mentioned, the "body" gives the object its colour, "other" is a second object."""

RELATIONS: tuple[str, ...] = ("", "on", "beside", "in front of", "behind")
"""How the object stands relative to the part "other", seen from the front."""


def hsv(rgb: Float[Tensor, "... 3"]) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Hue in degrees, saturation and value in [0, 1]."""
    value, low = rgb.amax(-1), rgb.amin(-1)
    red, green, blue = rgb.unbind(-1)
    spread = (value - low).clamp(min=1e-6)
    hue = torch.where(
        red == value,
        (green - blue) / spread,
        torch.where(green == value, 2 + (blue - red) / spread, 4 + (red - green) / spread),
    )
    return (60 * hue) % 360, (value - low) / value.clamp(min=1e-6), value


HUES = ((15, "red"), (42, "orange"), (68, "yellow"), (160, "green"), (195, "turquoise"), (255, "blue"), (295, "purple"))
"""Upper ends in degrees; pink to 345, then red again."""


def color_names(rgb: Float[Tensor, "... 3"]) -> Int[Tensor, "..."]:
    """Index into COLORS by rules on hue, saturation and value; dark or dull orange is brown, light red is pink."""
    hue, saturation, value = hsv(rgb)
    index = {name: place for place, name in enumerate(COLORS)}
    edges = torch.tensor([float(edge) for edge, _ in HUES] + [345.0], device=rgb.device)
    names = torch.tensor([index[name] for _, name in HUES] + [index["pink"], index["red"]], device=rgb.device)
    named = names[torch.bucketize(hue, edges, right=True)]
    dull = (hue >= 15) & (hue < 42) & ((value < 0.68) | (saturation < 0.5))
    dull = dull | ((hue >= 42) & (hue < 60) & (value < 0.5))
    light = ((hue < 20) | (hue >= 345)) & (saturation < 0.6) & (value > 0.7)
    dusky = (hue >= 295) & (hue < 325) & (value < 0.6)
    rules = (
        (dull, "brown"),
        (light, "pink"),
        (dusky, "purple"),
        ((saturation < 0.14), "grey"),
        ((saturation < 0.14) & (value > 0.8), "white"),
        (value < 0.2, "black"),
    )
    for here, name in rules:
        named = torch.where(here, index[name], named)
    return named
