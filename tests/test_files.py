"""Files are whole or absent, and what went wrong is one sentence."""

import errno
import stat

import pytest

from hash3d.files import WriteError, replacing, write_bytes, write_text


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path):
    write_text(tmp_path / "a.txt", "old")
    (tmp_path / "a.txt").chmod(0o640)
    write_text(tmp_path / "a.txt", "new \u00e9")
    assert (tmp_path / "a.txt").read_text(encoding="utf-8") == "new \u00e9"
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o640
    assert len(list(tmp_path.iterdir())) == 1


def test_a_link_stays_and_what_it_names_is_replaced(tmp_path):
    write_text(tmp_path / "far" / "a.txt", "old")
    (tmp_path / "latest.txt").symlink_to("far/a.txt")
    write_text(tmp_path / "latest.txt", "new")
    assert (tmp_path / "latest.txt").is_symlink()
    assert (tmp_path / "far" / "a.txt").read_text() == "new"


def test_what_is_unfinished_is_private(tmp_path):
    with replacing(tmp_path / "a.png") as temporary:
        assert stat.S_IMODE(temporary.stat().st_mode) == 0o600
        assert temporary.suffix == ".png"
        assert temporary.name.startswith(".a.png.")
    write_bytes(tmp_path / "new" / "b", b"")
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "new" / "b").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES, errno.EFBIG])
def test_a_failure_is_one_sentence_and_keeps_the_old_file(code, tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    wrong = OSError(code, "What the system says", str(tmp_path / "hidden.tmp"))
    with (
        pytest.raises(
            WriteError, match=r"^Could not write .*a\.txt: What the system says\. .*\. The old file is kept\.$"
        ),
        replacing(path),
    ):
        raise wrong
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(WriteError, match=r"^Could not write .*file/new: Not a directory\. Check the path"):
        write_text(tmp_path / "file" / "new" / "a.txt", "")


def test_another_error_passes_and_cleans_up(tmp_path):
    with pytest.raises(RuntimeError, match=r"^mine$"), replacing(tmp_path / "a"):
        raise RuntimeError("mine")
    assert not list(tmp_path.iterdir())
