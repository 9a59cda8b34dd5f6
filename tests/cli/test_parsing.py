"""What tyro says in a box is one sentence here."""

from dataclasses import dataclass

import pytest

from hash3d.cli.parsing import parse_options


@dataclass(frozen=True)
class Options:
    steps: int = 3


def test_options_are_parsed():
    assert parse_options(Options, "x", ["--steps", "7"]) == Options(steps=7)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "many"], "Error parsing --steps: .*'many'"),
        (["--stepz", "1"], "Unrecognized options: --stepz, 1 Perhaps you meant: --steps"),
    ],
)
def test_a_mistake_is_one_sentence(arguments, said, capsys):
    with pytest.raises(ValueError, match=rf"^{said}.* hash3d x --help tells the options\.$") as caught:
        parse_options(Options, "x", arguments)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr() == ("", "")


def test_help_is_no_mistake(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse_options(Options, "x", ["--help"])
    assert "--steps" in capsys.readouterr().out
