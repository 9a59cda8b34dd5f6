"""The benchmark of rays beside nerfacc, in small on a CPU, where nerfacc does not run."""

import re
import runpy
import sys

import pytest

pytestmark = pytest.mark.nightly


def test_a_cpu_measures_our_renderer_alone_and_says_so(tmp_path, monkeypatch, capsys):
    page = tmp_path / "rays_peer.md"
    options = ["--tiny", "--device", "cpu", "--repeats", "1", "--warm-up", "0", "--write", str(page)]
    monkeypatch.setattr(sys, "argv", ["rays_peer.py", *options])
    runpy.run_module("research.benchmarks.rays_peer", run_name="__main__")
    assert "nerfacc needs a GPU" in capsys.readouterr().out
    rows = re.findall(
        r"^\| (dreamfusion|zero123_nerf) \| ours \| torch \| 16x16 \| ([\d,]+) \|", page.read_text(), re.M
    )
    assert [system for system, _ in rows] == ["dreamfusion", "zero123_nerf"]
    assert all(int(samples.replace(",", "")) > 0 for _, samples in rows)
