"""The benchmark of rays, in small on a CPU."""

import runpy
import sys

import pytest

pytestmark = pytest.mark.nightly


def test_it_measures_both_systems_and_writes_a_page(monkeypatch, tmp_path):
    page = tmp_path / "rays.md"
    options = ["--tiny", "--device", "cpu", "--repeats", "1", "--warm-up", "0", "--write", str(page)]
    monkeypatch.setattr(sys, "argv", ["rays.py", *options])
    runpy.run_module("research.benchmarks.rays", run_name="__main__")
    rows = [line.split(" | ") for line in page.read_text().splitlines() if line.startswith(("| dream", "| zero"))]
    assert [row[:3] for row in rows] == [["| dreamfusion", "torch", "16x16"], ["| zero123_nerf", "torch", "16x16"]]
    assert all(float(number.replace(",", "")) > 0 for row in rows for number in row[3:8])
