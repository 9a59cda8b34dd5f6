"""How a command ends."""

import pytest

from research.experiments.command import leave


def failing(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("code", [0, 1])
def test_it_leaves_with_the_command_s_code(code):
    with pytest.raises(SystemExit) as left:
        leave(lambda: code, "toy")
    assert left.value.code == code


@pytest.mark.parametrize("kind", [ValueError, OSError, ImportError])
def test_a_mistake_is_one_sentence_on_stderr(kind, capsys):
    with pytest.raises(SystemExit) as left:
        leave(failing(kind("Expected [1], but got [2].")), "toy")
    assert left.value.code == 2
    assert tuple(capsys.readouterr()) == ("", "toy: Expected [1], but got [2].\n")


def test_a_traceback_if_asked(monkeypatch):
    monkeypatch.setenv("HASH3D_TRACEBACK", "1")
    with pytest.raises(ValueError, match="Expected 1"):
        leave(failing(ValueError("Expected 1")), "toy")


def test_a_fault_of_ours_keeps_its_traceback():
    with pytest.raises(AssertionError):
        leave(failing(AssertionError()), "toy")
