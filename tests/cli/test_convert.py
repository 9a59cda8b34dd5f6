"""`hash3d convert`: what is refused before anything is read. What it writes: `tests/diffusion/test_convert.py`."""

import pytest

from hash3d.cli import run_command


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        run_command(["convert", str(tmp_path / "none.ckpt"), "--out", str(tmp_path / "out")])


def test_a_folder_with_files_is_kept(tmp_path):
    for name in ("model.ckpt", "mine"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match="new or empty folder"):
        run_command(["convert", str(tmp_path / "model.ckpt"), "--out", str(tmp_path)])
