"""The command line itself."""

import os
import re

import pytest

from hash3d.cli import COMMANDS, escape, fail, format_error

from .conftest import assert_refused


def test_usage(hash3d):
    assert hash3d("--help")[0] == 0
    code, out, _ = hash3d()
    assert code == 2
    assert all(name in out for name in COMMANDS)
    assert_refused(hash3d("generte"), "Expected a command .* but got 'generte'")


@pytest.mark.parametrize(("given", "spins"), [
    ({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None),
])  # fmt: skip
def test_threads_that_wait_soon_sleep_unless_the_user_says_otherwise(hash3d, monkeypatch, given, spins):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, given.get(name, ""))
        if name not in given:
            monkeypatch.delenv(name)
    assert hash3d("systems")[0] == 0
    assert os.environ.get("GOMP_SPINCOUNT") == spins


def test_an_error_of_the_system_gets_its_path():
    error = OSError(28, "No space left on device", "model.ply")
    expected = (
        "Could not read or write model.ply: No space left on device. Check the path, its permissions and the free"
    )
    assert format_error(error).startswith(expected)
    assert format_error(ValueError("Expected a cup.")) == "Expected a cup."


def test_control_characters_of_a_name_are_written_as_python_does():
    assert escape("no \x1b[31ma\nb\udcff ünï.png") == r"no \x1b[31ma\nb\udcff ünï.png"


def test_an_endless_message_loses_its_middle(capsys):
    with pytest.raises(SystemExit, match="2"):
        fail("begin " + "x" * 5000 + " end")
    assert re.fullmatch(r"hash3d: begin x{494} \.\.\. x{496} end\n", capsys.readouterr().err)
