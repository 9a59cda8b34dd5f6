"""The table, against sums done by hand."""

import math

import pytest

from research.experiments.table import SHALLOW_COST, Costs, paired_difference, table

TIMING = {"pass_ms": {"full": 100.0, "shallow": [60.0, 25.0]}, "hardware": "an abacus"}
GAP = {"elevation": 2.0, "azimuth": 4.0, "radius": 0.0, "timestep": 50.0}


def row(variant, item, seed=0, *, full=10, shallow=0, cut=None, mode=None, hits=0, audits=0, **metrics):
    guard = {"audits": audits, "mean_error": 0.25, "held_back": 0}
    cache = {"hits": hits, "mean_gap": GAP, "mean_age_steps": 3.0, "guard": guard} if mode else None
    return {
        **{"variant": variant, "object": item, "seed": seed, "full": full, "shallow": shallow, "cut": cut},
        **{"mode": mode, "cache": cache, "reuse_share": shallow / (full + shallow), "seconds": {"total": 5.0}},
        **metrics,
    }


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_paired_difference():
    """Differences 1, 2, 6: mean 3, variance ((-2)^2 + (-1)^2 + 3^2) / 2 = 7, error sqrt(7 / 3)."""
    mean, error = paired_difference([11.0, 22.0, 36.0], [10.0, 20.0, 30.0])
    assert mean == pytest.approx(3.0)
    assert error == pytest.approx(math.sqrt(7 / 3))
    assert math.isnan(paired_difference([1.0], [0.0])[1]), "one pair has no error"


def test_only_pairs_that_both_have_count():
    rows = [row("off", name, psnr=value) for name, value in (("a", 20.0), ("b", 22.0), ("c", 99.0))]
    on = {"full": 4, "shallow": 6, "mode": "feature", "cut": 1, "hits": 6}
    rows += [row("on", name, psnr=value, **on) for name, value in (("a", 20.5), ("b", 23.5), ("d", 0.0))]
    first, second = (cells(line) for line in table(rows, ["off", "on"], Costs(timing=TIMING))[2:])
    assert first[:7] == ["off", "3", "47.00", "-", "-", "-", "0%"]
    assert second[1] == "2"
    # Differences 0.5 and 1.5: mean 1, error sqrt(0.5 / 2). Cost: (4 + 0.25 * 6) / 10.
    assert second[2] == "22.00 (+1.000 +- 0.500)"
    assert second[6:] == ["60%", "0.55", "2 / 4 / 0 / 50", "3.0", "-", "5"]


def test_a_seed_is_a_pair_of_its_own():
    rows = [row("off", "a", 0, iou=0.5), row("off", "a", 1, iou=0.7), row("on", "a", 1, iou=0.8)]
    second = cells(table(rows, ["off", "on"], Costs())[3])
    assert second[1] == "1"
    assert second[5] == "0.800 (+0.1000)"


def test_costs_of_a_shallow_pass():
    """Measured for the cut where it was measured; nothing where predictions are kept."""
    costs, run = Costs(timing=TIMING), {"full": 4, "shallow": 6, "hits": 6}
    assert costs.guidance(row("on", "a", mode="feature", cut=0, **run)) == pytest.approx(4 + 0.6 * 6)
    assert costs.guidance(row("on", "a", mode="feature", cut=1, **run)) == pytest.approx(4 + 0.25 * 6)
    assert costs.guidance(row("on", "a", mode="noise", cut=1, **run)) == 4
    assert Costs().guidance(row("on", "a", mode="feature", cut=0, **run)) == pytest.approx(4 + SHALLOW_COST * 6)


def test_an_audit_costs_a_shallow_pass_besides_its_full_one():
    costs, run = Costs(timing=TIMING), {"full": 4, "shallow": 6, "hits": 6, "audits": 2}
    on = row("on", "a", mode="feature", cut=1, **run)
    assert costs.guidance(on) == pytest.approx(4 + 0.25 * (6 + 2))
    assert costs.guidance(row("on", "a", mode="noise", cut=1, **run)) == 4, "a stored prediction is there already"
    second = cells(table([row("off", "a"), on], ["off", "on"], costs)[3])
    assert (second[7], second[10]) == ("0.60", "2: 0.25")


def test_the_legend_says_what_a_shallow_pass_counts():
    assert str(Costs(timing=TIMING)).startswith("A shallow pass counts as timed on an abacus: 60.0, 25.0 ms")
    assert "have not been timed" in str(Costs())
    assert f"counts as {SHALLOW_COST} of" in str(Costs())


def test_variants_without_rows_or_figures_have_no_numbers():
    lines = table([row("off", "a")], ["off", "on"], Costs())
    assert cells(lines[2])[2:6] == ["-"] * 4
    assert cells(lines[3])[1:] == ["0", *["-"] * 10]
    assert len({line.count("|") for line in lines}) == 1
