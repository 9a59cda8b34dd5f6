"""The benchmarks, with tiny priors on a CPU: that of the nine systems, and those of the guidance alone."""

import json
import runpy
import sys

import pytest
import torch

pytestmark = pytest.mark.nightly


@pytest.fixture
def run(monkeypatch, tmp_path):
    """Runs the script on systems; gives its exit code, the rows of its JSON and the page."""

    def run(*systems, steps, warm_up):
        files = {"--folder": tmp_path, "--json": tmp_path / "rows.json", "--write": tmp_path / "page.md"}
        options = [str(each) for pair in files.items() for each in pair]
        numbers = ["--steps", str(steps), "--warm-up", str(warm_up)]
        arguments = ["--tiny", "--device", "cpu", *numbers, "--systems", *systems, *options]
        monkeypatch.setattr(sys, "argv", ["systems_full_size.py", *arguments])
        with torch.random.fork_rng(devices=[]), pytest.raises(SystemExit) as left:
            runpy.run_module("research.benchmarks.systems_full_size", run_name="__main__")
        return int(left.value.code), json.loads((tmp_path / "rows.json").read_text())["rows"], tmp_path / "page.md"

    return run


def test_two_stages_with_the_cache_off_and_on(run):
    code, rows, page = run("magic3d", steps=3, warm_up=1)
    assert code == 0
    assert [(row["stage"], row["cache"], row["representation"]) for row in rows] == [
        (stage, cache, kind) for cache in ("off", "on") for stage, kind in ((1, "Nerf"), (2, "DmtetMesh"))
    ]
    for row in rows:
        assert (row["steps"], row["measured_steps"]) == (3, 2)
        assert min(row["mean_ms"].values()) > 0
        # Two steps, so that the median is the mean; the parts are inside of it.
        assert sum(row["mean_ms"].values()) == pytest.approx(row["median_ms"])
    assert page.read_text().count("| magic3d") == len(rows)


def test_what_is_measured_begins_after_the_warm_up(run):
    """Of eight open cells two are left after one visit: of the steps 9 to 12 two are full and two are reused."""
    _, (off, on), _ = run("zero123_gs", steps=12, warm_up=8)
    assert (off["reuse_share"], on["reuse_share"]) == (0.0, 0.5)


def test_a_system_that_fails_has_a_row_and_stops_no_other(run, tmp_path):
    code, rows, page = run("zero123_gs", steps=2, warm_up=1)
    assert code == 0
    (tmp_path / "stable-zero123" / "vae" / "config.json").unlink()
    sys.modules["research.benchmarks.full_size_cases"].LOADED._priors.clear()
    code, rows, page = run("zero123_gs", "sds_gs", steps=2, warm_up=1)
    assert code == 1
    assert ["vae/config.json" in row.get("error", "") for row in rows] == [True, True, False, False]
    assert "ValueError: Expected the prior" in page.read_text()


@pytest.fixture
def measure(monkeypatch, tmp_path):
    """Runs a script of the guidance alone; gives the rows of its JSON and the page."""

    def measure(script, *options):
        files = {"--folder": tmp_path, "--json": tmp_path / "rows.json", "--write": tmp_path / "page.md"}
        given = [str(each) for pair in files.items() for each in pair]
        tiny = ["--tiny", "--device", "cpu", "--repeats", "2", "--priors", "stable-zero123"]
        monkeypatch.setattr(sys, "argv", [script, *tiny, *given, *options])
        with torch.random.fork_rng(devices=[]):
            runpy.run_module(f"research.benchmarks.{script}", run_name="__main__")
        return json.loads((tmp_path / "rows.json").read_text())["rows"], (tmp_path / "page.md").read_text()

    return measure


def test_the_parts_of_a_guidance_call(measure):
    rows, page = measure("guidance")
    by_part = {row["part"]: row for row in rows}
    passes = [by_part[f"U-Net, {kind}"] for kind in ("full", "shallow at i = 10", "shallow at the last cut")]
    # A shallow pass from a full pass's own feature gives the same, and one engine is as exact as itself.
    assert [row["error"] for row in passes] == [0.0, 0.0, 0.0]
    assert by_part["encoder, 64, and gradient"]["cosine"] == pytest.approx(1.0)
    hit = by_part["cache, a hit"]
    parts = [by_part[f"cache, {kind}"]["ms"]["median"] for kind in ("key and lookup", "blend of 3")]
    assert hit["median"] == pytest.approx(sum(parts))
    assert hit["share_of_full"]["eager"] == pytest.approx(hit["median"] / passes[0]["ms"]["median"])
    assert page.count("| stable-zero123 | U-Net, full |") == 1


def test_scaling_fills_the_table_as_far_as_memory_goes(measure):
    rows, page = measure("scaling", "--batches", "1", "3", "--entries", "5", "40", "100000", "--max-gib", "0.001")
    assert [row["views"] for row in rows if "views" in row] == [1, 3, 1, 3]
    held = [(row["kind"], row["entries"]) for row in rows if "entries" in row]
    # A full call adds an entry, and a bucket holds three; the largest table does not fit.
    assert held == [("full", 5), ("full", 40), ("reused", 5), ("reused", 40)]
    assert "| stable-zero123 | eager | reused |" in page


def test_variants_on_a_cpu(monkeypatch, tmp_path):
    files = ["--folder", str(tmp_path), "--json", str(tmp_path / "rows.json")]
    monkeypatch.setattr(sys, "argv", ["cpu.py", "--tiny", "--no-compile", "--repeats", "2", *files])
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        runpy.run_module("research.benchmarks.cpu", run_name="__main__")
    assert torch.get_num_threads() == threads
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    exact = {(row["part"], row["variant"]): row["error"] for row in rows if row["error"] is not None}
    # A number of threads or a layout changes the order of sums alone; bfloat16 keeps eight bits.
    assert max(error for (_, variant), error in exact.items() if variant != "bfloat16") < 1e-4
    assert all(1e-4 < error < 0.1 for (_, variant), error in exact.items() if variant == "bfloat16")


def test_a_unet_of_ldm_beside_diffusers(monkeypatch, tmp_path):
    options = ["--tiny", "--device", "cpu", "--repeats", "2", "--write", str(tmp_path / "page.md")]
    monkeypatch.setattr(sys, "argv", ["ldm", *options])
    runpy.run_module("research.benchmarks.ldm", run_name="__main__")
    lines = [line for line in (tmp_path / "page.md").read_text().splitlines() if "| eager |" in line]
    assert [line.split(" | ")[:3:2] for line in lines] == [
        [f"| {layout}", views] for layout in ("LDM", "diffusers") for views in "14"
    ]
    assert all("| same bits |" in line for line in lines), "a hit is the pass in full"
