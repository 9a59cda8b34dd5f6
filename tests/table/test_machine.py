"""Where runs are made, and what rows say of that."""

import pytest

from hash3d import __version__
from hash3d.table.machine import all_of, describe_machine, provenance


def test_cores_are_shared_evenly(tmp_path, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 16)
    assert [describe_machine(tmp_path, "cpu", workers=workers).threads for workers in (1, 3, 40)] == [16, 5, 1]
    with pytest.raises(ValueError, match="at least 1 worker, but got 0"):
        describe_machine(tmp_path, "cpu", workers=0)


def test_a_row_says_how_it_was_made(tmp_path):
    rows = [describe_machine(tmp_path, "cpu", hardware=name, commit="abc").account() for name in ("old", "new", "old")]
    assert all_of(rows, "hardware") == "new, old"
    assert provenance(rows).startswith("device cpu, new, old; commit abc; ")
    assert rows[0]["hash3d"] == __version__
