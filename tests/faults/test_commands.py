"""Command lines: nonsense is refused in one sentence before anything is written, what is sane is accepted."""

# ruff: noqa: PT017  (a refusal is one of two good outcomes)

import random

import pytest

from hash3d.cli.generate import build_recipe, parse
from hash3d.recipes.limits import check_numbers
from hash3d.recipes.serialize import from_plain, to_plain

SANE = {
    "--steps": ("2", "300", "10000000"), "--seed": ("0", "7", str(2**32)), "--checkpoint-every": ("1", "50"),
    "--elevation": ("-90", "0", "12.5"), "--dwell": ("1", "8"), "--cache.reuse-probability": ("0", "0.5", "1"),
    "--cache.grid.azimuth": ("0.1", "360"), "--cache.grid.timestep": ("1", "1000"), "--cache.max-age": ("1", "None"),
    "--cache.queue-length": ("1", "3"), "--cache.gamma": ("0", "0.9"), "--cache.guard.warm-up": ("0", "10"),
    "--framing": ("auto", "keep"), "--pose": ("xl",), "--scale": ("mini",), "--cache.seed": ("3",),
}  # fmt: skip
WHOLE = ("-1", "1e23", "1" + "0" * 23, "nan", "inf", "", "x", "0x10", "1.5", "٣٫٥", "-" * 9, "9" * 5000)
REAL = ("nan", "inf", "-inf", "1e400", "-1e300", "", "x", "1e99", "1" + "0" * 400)
NONSENSE = {
    **dict.fromkeys(("--steps", "--checkpoint-every", "--dwell"), ("0", *WHOLE)),
    **dict.fromkeys(("--cache.queue-length", "--cache.max-age"), ("0", *WHOLE)),
    **dict.fromkeys(("--seed", "--cache.seed"), (str(2**64), str(2**80), *WHOLE)),
    **dict.fromkeys(("--cache.grid.azimuth", "--cache.grid.timestep"), ("0", "-1", "1e-9", "1e-320", *REAL)),
    **dict.fromkeys(("--cache.reuse-probability", "--cache.gamma"), ("-0.1", "1.1", *REAL)),
    "--elevation": ("90.1", "-91", *REAL), "--cache.guard.warm-up": WHOLE, "--cache.guard.max-error": ("0.1", *REAL),
    "--cache.grid.num-buckets": ("0", *WHOLE), "--cache.cut": ("nan", "", str(10**9)), "--framing": ("", "x"),
    "--cache.max-bytes": ("0", *WHOLE), "--pose": ("", "X"), "--scale": ("", "huge"), "--no-such-option": ("1",),
}  # fmt: skip
PROMPTS = ("", "  \n", "\t", "a" * 1_000_000, "a mug " * 1000)


def is_accepted(arguments):
    """Whether a command line makes a recipe; anything but a refusal in a sentence is an error."""
    try:
        recipe = build_recipe(parse(arguments))
    except ValueError as refused:
        assert str(refused)
        assert "\n" not in str(refused)
        return False
    assert from_plain(to_plain(recipe)) == recipe
    check_numbers(recipe)
    return True


def try_many(seeds, image):
    for seed in seeds:
        draw = random.Random(seed)
        options = {name: draw.choice(SANE[name]) for name in draw.sample(sorted(SANE), draw.randint(0, 4))}
        wrong = draw.random() < 0.6
        if wrong:
            name = draw.choice(sorted(NONSENSE))
            options[name] = draw.choice(NONSENSE[name])
        arguments = ["zero123_gs", "--image", str(image), *(part for option in options.items() for part in option)]
        assert is_accepted(arguments) is not wrong, (seed, options)


def test_command_lines(picture_file, capsys):
    try_many(range(20), picture_file)


@pytest.mark.nightly
def test_many_command_lines(picture_file, capsys, record_property):
    """Command lines through the real parser, three in five with nonsense."""
    for seed in range(5000):
        record_property("tried", seed + 1)
        try_many([seed], picture_file)


@pytest.mark.parametrize("prompt", PROMPTS, ids=len)
def test_prompts_that_say_nothing_or_too_much(prompt, capsys):
    assert not is_accepted(["sds_gs", "--prompt", prompt])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seed",), -1), (("seed",), 2**64), (("stage", "steps"), 10**23), (("checkpoint_every",), 10**23),
        (("stage", "cameras", "radius"), float("nan")), (("stage", "cameras", "batch_size"), 10**9),
        (("stage", "representation", "num_points"), 10**12), (("stage", "size", "knots"), [[0.0, 1e9]]),
        (("stage", "losses", "color", "knots"), [[0.0, float("inf")]]), (("cache", "grid", "radius"), 1e-320),
        (("stage", "view_order", "active_cells"), 10**9), (("reference_elevation",), float("nan")),
    ],
)  # fmt: skip
def test_a_recipe_s_file_is_held_to_the_same(path, value, tiny_recipe):
    plain = to_plain(tiny_recipe)
    inner = plain
    for name in path[:-1]:
        inner = inner[name]
    assert path[-1] in inner
    inner[path[-1]] = value
    with pytest.raises(ValueError, match=r"^Expected .* but got"):
        from_plain(plain)
