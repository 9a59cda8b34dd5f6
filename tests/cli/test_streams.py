"""Output that nobody can read: a run goes on, and a command ends in order."""

import io
import os
import sys

import pytest

from hash3d.cli.streams import print_table, silence, usable_streams


@pytest.fixture(params=["full", "unread", "closed"])
def broken(request):
    """A text stream that fails at each write, or None as Python gives for one that was closed before the start."""
    if request.param == "closed":
        yield None
        return
    descriptor = os.open("/dev/full", os.O_WRONLY)
    if request.param == "unread":
        reading, writing = os.pipe()
        os.close(reading)
        os.dup2(writing, descriptor)
        os.close(writing)
    with os.fdopen(descriptor, "w") as stream:
        yield stream
        silence(stream)  # Closing it would fail like a write.


def test_a_run_whose_progress_nobody_reads_goes_on(generate, broken, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", broken)
    code, out, _ = generate()
    assert code == 0
    assert "done after 2 steps" in out
    assert (tmp_path / "run" / "summary.json").is_file()


def test_a_mistake_that_nobody_reads_still_has_its_code(hash3d, broken, monkeypatch):
    monkeypatch.setattr(sys, "stderr", broken)
    assert hash3d("nonsense")[0] == 2


@pytest.mark.parametrize("arguments", [("--help",), ("systems",), ("generate", "--help")], ids=" ".join)
def test_an_answer_that_cannot_be_written_ends_in_order(arguments, hash3d, broken, monkeypatch, request):
    monkeypatch.setattr(sys, "stdout", broken)
    code, _, err = hash3d(*arguments)
    full = "hash3d: Could not read or write: No space left on device. "
    assert (code, err[: len(full)]) == {
        "full": (2, full), "unread": (1, ""), "closed": (0, ""),
    }[request.node.callspec.params["broken"]]  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_names_that_an_encoding_lacks_are_written(encoding, monkeypatch):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    with usable_streams():
        sys.stdout.write("outputs/ü\udcff\n")
    stream.flush()
    assert stream.buffer.getvalue() == ("outputs/ü".encode(encoding, "backslashreplace") + b"\\udcff\n")


def test_a_row_stays_a_line_in_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    print_table(("one", "two"), [("x" * 100, "y"), ("z", "w" * 60)])
    lines = capsys.readouterr().out.rstrip().splitlines()
    assert len(lines) == 3
    assert "x" * 100 in lines[1]
