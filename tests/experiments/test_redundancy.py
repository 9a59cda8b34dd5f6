"""Entries that differ by one thing, and a page from rows."""

import json

import pytest
import torch

from hash3d.experiments import redundancy
from hash3d.experiments.redundancy import main, shifts, stored_timesteps
from hash3d.experiments.redundancy_page import CHANGES, ERROR, FEATURE, FRESH, RESIDUAL, SAME, default_table
from tests.priors.toy_world import render_square


@pytest.fixture
def measured(tmp_path, prior_folder, monkeypatch):
    """Runs the command on some objects; returns its rows and its page."""
    monkeypatch.setattr(redundancy, "render", render_square)

    def measured(count, *more):
        words = ["--out", tmp_path, "--page", tmp_path / "docs" / "redundancy", "--prior", prior_folder]
        assert main([*map(str, words), "--objects", str(count), "--timesteps", "300", "900", *more]) == 0
        rows = [json.loads(line) for line in (tmp_path / "redundancy.jsonl").read_text().splitlines()]
        return rows, tmp_path / "docs" / "redundancy"

    return measured


def test_an_entry_differs_by_one_thing():
    moved = torch.stack([shifts(field) for field in ("elevation", "azimuth", "radius", "timestep")])
    assert (moved != 0).sum(0).tolist() == [int(change.field not in ("noise", "object")) for change in CHANGES]


def test_a_timestep_beyond_the_last_is_as_much_earlier():
    stored = stored_timesteps((100, 900), 1000)
    later = [change.size for change in CHANGES if change.field == "timestep"]
    places = [place for place, change in enumerate(CHANGES) if change.field == "timestep"]
    assert stored[0, places].tolist() == [100 + size for size in later]
    assert stored[1, places].tolist() == [920, 950, 800, 700]
    assert stored[:, 0].tolist() == [100, 900]


def test_rows_of_two_objects(measured):
    rows, page = measured(2, "--commit", "abc")
    assert [row["object"] for row in rows] == [0, 1]
    for row in rows:
        by_cut, by_timestep = torch.tensor(row["by_cut"]), torch.tensor(row["by_timestep"])
        assert by_cut.shape == (6, 2, len(CHANGES), 3)
        assert by_timestep.shape == (2, 2, len(CHANGES), 3)
        assert torch.allclose(by_timestep.mean(0), by_cut[row["cut"]], atol=2e-5)  # rounded to 5 digits
        same = by_cut[:, SAME, 0]
        assert torch.allclose(same[:, [FEATURE, RESIDUAL]], torch.ones(6, 2), atol=1e-4), "nothing differs"
        assert same[:, ERROR].max() < 1e-5
        far = torch.tensor([change.field != "radius" for change in CHANGES])  # The toy world shows no distance.
        assert (by_cut[:, SAME, far, ERROR][:, 1:] > 1e-4).all(), "everything else does"
        assert (by_cut[:, FRESH, 0, FEATURE] < 0.999).all()
    text = page.with_suffix(".md").read_text()
    assert "commit abc" in text
    assert text.count("| another object |") == 3
    assert page.with_suffix(".png").stat().st_size < 300_000


def test_a_second_call_only_writes_the_page(measured, monkeypatch):
    rows, page = measured(1)
    text = page.with_suffix(".md").read_text()
    page.with_suffix(".md").write_text(text.replace("another object", "stale") + "\nMine below.\n")
    monkeypatch.setattr(redundancy, "load_zero123", None)  # Nothing is measured from here on.
    assert measured(1)[0] == rows
    assert page.with_suffix(".md").read_text() == text + "\nMine below.\n"


def test_the_table_tells_mean_and_standard_error():
    values = torch.zeros(2, 2, len(CHANGES), 3)
    values[:, FRESH, 0, RESIDUAL] = torch.tensor([0.6, 0.8])  # s = 0.1414, s / sqrt(2) = 0.1
    first = default_table(values)[2]
    assert first.startswith("| noise only (same camera, same t) | 0.00 +- 0.00 | 0.00 +- 0.00 | 0.70 +- 0.10 |")
