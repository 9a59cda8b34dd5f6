"""The benchmark of the encodings, on a CPU: its two parts, measured one after the other."""

import json
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Runs the script; gives all rows that are kept, and the page."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))

    def measure(*options):
        files = ["--folder", str(tmp_path / "priors"), "--write", str(tmp_path / "page.md")]
        given = ["encoder.py", "--tiny", "--device", "cpu", "--repeats", "2", *files, *options]
        monkeypatch.setattr(sys, "argv", given)
        with torch.random.fork_rng(devices=[]):
            runpy.run_path(str(ROOT / "benchmarks" / "encoder.py"), run_name="__main__")
        return json.loads((tmp_path / "page.json").read_text())["rows"], (tmp_path / "page.md").read_text()

    return measure


def test_parts_that_are_measured_apart_stand_on_one_page(measure, tmp_path):
    (tmp_path / "pictures").mkdir()
    shutil.copy(ROOT / "examples" / "pictures" / "mushroom.png", tmp_path / "pictures")
    quality = ["--embedded", "mini-sd", "--pictures", str(tmp_path / "pictures"), "--distil-seconds", "0"]
    rows, page = measure("--only", "quality", *quality)
    by_name = {row["encoding"]: row for row in rows}
    for name, row in by_name.items():
        assert (row["error"] == 0.0) == (name not in ("half", "tried: eight bits on the way there too"))
    assert all(mean == pytest.approx(1.0) for mean, _ in by_name["exact"]["cosine"].values())
    noise = [by_name[name]["cosine"]["white noise"] for name in ("half", "half_gradient")]
    assert noise[0] == noise[1]  # For a given gradient on the latents the two are one linear map.
    assert page.count("Not measured yet.") == 1

    rows, page = measure("--only", "time", "--encodings", "exact", "half")
    times = [(row["encoding"], row["size"], row["batch"]) for row in rows if row["part"] == "time"]
    assert times == [(name, size, batch) for size in (64, 32) for batch in (1, 4) for name in ("exact", "half")]
    assert "Not measured yet." not in page
    again, _ = measure("--only", "time", "--encodings", "half", "tiny")
    assert len(again) == len(rows) + 4
    assert [row for row in again if row["part"] == "quality"] == [row for row in rows if row["part"] == "quality"]
