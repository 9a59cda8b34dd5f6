"""Means over pairs, and multiply-accumulates, by hand."""

import csv
import io

import pytest

from hash3d.evaluation.macs import Macs
from hash3d.table import report
from hash3d.table.report import count_row, known_metrics, markdown_table, pairs_of, summarize, to_csv

MACS = Macs(full=1000 * 10**9, shallow=(800 * 10**9, 100 * 10**9), full_layers=0, shallow_layers=(0, 0))


def row(variant, item="cup", seed=0, **others):
    unets = {"image": {"prior": "mini", "cut": None, "full": 4, "shallow": 0, "single": 0}}
    common = {"system": "zero123_gs", "reuse_share": 0.0, "unets": unets, "seconds": {"total": 10.0}}
    return {"object": item, "seed": seed, "variant": variant, **common, **others}


REUSED = {"image": {"prior": "mini", "cut": 1, "full": 1, "shallow": 3, "single": 0}}
ROWS = [
    row("off", psnr=20.0), row("off", "hat", psnr=22.0), row("off", "mug", psnr=9.0),
    row("default", psnr=19.0, unets=REUSED, reuse_share=0.75),
    row("default", "hat", psnr=22.5, unets=REUSED, reuse_share=0.75),
]  # fmt: skip


@pytest.fixture(autouse=True)
def counted(monkeypatch):
    monkeypatch.setattr(report, "_count_prior", lambda name: MACS if name == "mini" else None)


def test_words_stand_on_the_left_and_numbers_on_the_right():
    assert markdown_table(["", "IoU"], [["copy", "0.5"]]) == ["|  | IoU |", "| --- | ---: |", "| copy | 0.5 |"]
    assert markdown_table("abc", [], words=2) == ["| a | b | c |", "| --- | --- | ---: |"]


def test_only_what_both_sides_have_is_a_pair():
    assert [(mine["object"], other["psnr"]) for mine, other in pairs_of(ROWS, "default", "off")] == [
        ("cup", 20.0), ("hat", 22.0),
    ]  # fmt: skip


def test_an_infinite_metric_is_none():
    pairs = pairs_of([row("off", psnr=float("inf")), row("off", "hat", psnr=1.0)], "off", "off")
    assert known_metrics("psnr", pairs) == ([1.0], [1.0])


def test_a_line_compares_with_the_first_setting():
    """-1 and +0.5: the mean is -0.25, its standard error sqrt(1.125 / 2) = 0.75. 1 full and 3 shallow passes of 4."""
    heads, lines = summarize(ROWS, ["zero123_gs", "sds_gs"], ["off", "default", "replay"])
    assert heads == ["system", "reuse", "runs", "PSNR", "reused", "MACs, T", "a pass, G", "seconds"]
    assert lines == [
        ["zero123_gs", "off", "3", "17.00", "0%", "4", "1000", "10"],
        ["zero123_gs", "default", "2", "20.75 (-0.25 +- 0.75)", "75%", "1.3", "325", "10"],
    ]


def test_a_pass_of_one_branch_is_half_a_pass():
    single = {"image": {"prior": "mini", "cut": None, "full": 4, "shallow": 0, "single": 4}}
    two = {**single, "text": {"prior": "mini", "cut": 0, "full": 0, "shallow": 2, "single": 0}}
    assert count_row(row("replay", unets=single)) == (2000e9, 1000e9)
    assert count_row(row("replay", unets=two)) == (3600e9, 900e9)
    assert count_row(row("off", unets={"image": {**single["image"], "prior": "unknown"}})) is None


def test_a_csv_has_every_metric_with_full_precision():
    lines = list(csv.DictReader(io.StringIO(to_csv(ROWS, ["zero123_gs"], ["off", "default"]))))
    assert [(line["reuse"], line["metric"], line["runs"]) for line in lines] == [
        ("off", "psnr", "3"),
        ("default", "psnr", "2"),
    ]
    assert [float(lines[1][name]) for name in ("mean", "difference", "standard_error")] == pytest.approx(
        [20.75, -0.25, 0.75]
    )
