"""Each file operation of a run fails once, in each way: the run says so in one sentence, and goes on when resumed."""

import errno
import json
import re
from contextlib import nullcontext

import pytest
import torch

from hash3d import files
from hash3d.files import WriteError, append_text, load_tensors, save_tensors
from hash3d.training.run import Run
from tests.faults.faulty_files import Killed, failing_at

CODES = {"no space": errno.ENOSPC, "I/O error": errno.EIO, "too large": errno.EFBIG, "kill": None}


def series(path):
    return [json.loads(line)["loss"] for line in (path / "metrics.jsonl").read_text().splitlines()]


def fail_and_resume(recipe, path, number, code):
    """Whether operation `number` came; it fails, then the resumed run must end as one that nothing hit."""
    with failing_at(number, code) as count:
        try:
            Run(recipe, path).execute()
        except (WriteError, ValueError) as error:
            assert re.match(r"Could not write |Expected a run folder, but .* cannot be opened", str(error))  # noqa: PT017
            assert str(error).count("\n") == 0  # noqa: PT017
        except Killed:
            pass
    if path.exists():
        assert code is None or not list(path.glob("**/.*.tmp*"))
        anew = (path / "metrics.jsonl").exists() and not (path / "checkpoint/state.pt").exists()
        with pytest.warns(UserWarning, match="the run starts anew") if anew else nullcontext():
            assert Run(recipe, path, resume=True).execute()["completed"]
        assert len(series(path)) == 4
        assert not list(path.glob("**/.*.tmp*"))
    return count[0] >= number


@pytest.mark.parametrize("number", [9, 31])
def test_a_failing_write_is_told_and_resumed(recipe, tmp_path, number):
    code = list(CODES.values())[number % len(CODES)]
    assert fail_and_resume(recipe, tmp_path / "run", number, code)


@pytest.mark.nightly
@pytest.mark.parametrize("name", CODES)
def test_every_failing_write_is_told_and_resumed(recipe, tmp_path, name, record_property):
    """Write fails at operation n, for each n of a run: no space, I/O error, file too large; kill at operation n."""
    tried = 0
    while fail_and_resume(recipe, tmp_path / str(tried), tried + 1, CODES[name]):
        tried += 1
        record_property("tried", tried)
    assert tried > 40


def test_an_append_that_fails_leaves_the_file_as_it_was(tmp_path, monkeypatch):
    path = tmp_path / "rows"
    append_text(path, "one\n")
    with (
        failing_at(3, errno.EIO),
        pytest.raises(WriteError, match=r"Could not write .*rows: Input/output error\. Check"),
    ):
        append_text(path, "two\n")
    assert path.read_text() == "one\n"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(WriteError, match="Replace the link"):
        append_text(tmp_path / "link", "two\n")


@pytest.mark.parametrize("number", [1, 2, 5, 20])
def test_a_failing_save_of_tensors_keeps_the_last(tmp_path, number):
    path = tmp_path / "state.pt"
    save_tensors(path, {"a": torch.arange(3)})
    writes = [(files._Hashed, "write")]
    with (
        failing_at(number, errno.ENOSPC, writes),
        pytest.raises(WriteError, match=r"No space left.*The old file is kept\.$"),
    ):
        save_tensors(path, {"a": torch.arange(9)})
    assert load_tensors(path, "cpu", sealed=True)["a"].tolist() == [0, 1, 2]
    assert [each.name for each in tmp_path.iterdir()] == ["state.pt"]
