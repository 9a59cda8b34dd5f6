"""Runs of a study: paired, resumed, cut off, failing."""

import dataclasses
import shutil
import threading

import pytest
from PIL import Image

from hash3d.table import runner
from hash3d.table.objects import find_objects
from hash3d.table.runner import Rows
from hash3d.table.worker import Outcome
from research.experiments.__main__ import main
from research.experiments.job import find_jobs
from research.experiments.passes import find_timing
from research.experiments.studies import STUDIES
from research.experiments.study import Study, Variant
from tests.research.experiments.conftest import REUSING, small


def test_jobs_come_seed_by_seed_object_by_object_variant_by_variant(toy, jobs_of):
    jobs = jobs_of(toy, seeds=(0, 1), variants=("cache", "no cache"))
    places = [(job.seed, job.input.name, job.label) for job in jobs]
    assert places == [(s, o, v) for s in (0, 1) for o in ("cup", "disc") for v in ("no cache", "cache")]


def test_several_priors_multiply_the_variants(toy, jobs_of):
    both = jobs_of(toy, variants=("no cache", "cache"))
    assert {job.label for job in both} == {"no cache", "cache"}
    objects = find_objects(both[0].input.path.parent)
    jobs = find_jobs(toy, objects[:1], priors=("a/before", "a/after"), variants=("no cache", "cache"))
    assert [job.label for job in jobs] == ["before no cache", "before cache", "after no cache", "after cache"]
    jobs = find_jobs(toy, objects[:1], priors=("a/before", "a/after"), variants=("no cache",))
    assert [job.label for job in jobs] == ["before", "after"]
    jobs = find_jobs(toy, objects[:1], priors=("a/final", "b/final"), variants=("no cache",))
    assert [job.label for job in jobs] == ["a/final", "b/final"]


def test_an_unknown_variant_is_named(toy):
    with pytest.raises(ValueError, match=r"Expected variants of toy .* but got 'cash'"):
        toy.choose(["cash"])


def test_rows_pairs_and_a_second_call(toy, jobs_of, run, machine):
    jobs, rows = jobs_of(toy), Rows(machine.runs)
    assert run(jobs)[0] == 0
    cup, same = (next(row for row in rows.of(jobs) if row["variant"] == name) for name in ("cache", "same cache"))
    assert cup["cache"]["hits"] > 0, "the test means nothing without hits"
    assert cup["full"] + cup["shallow"] == cup["steps"] == 6
    assert len(rows.read()) == 4, "variants that differ in nothing are one run"
    for name in ("psnr", "ssim", "ssim_padded", "full", "gaussians"):
        assert cup[name] == same[name], "variants that differ in nothing give the same metrics"
    assert sum("psnr" in row for row in rows.of(jobs)) == 3, "only the cup has true views"
    (disc,) = (job for job in jobs if (job.label, job.input.name) == ("same cache", "disc"))
    strip = Image.open(machine.strip(disc.identity))
    assert strip.size == (4 * 128, 128)

    assert run(jobs) == (0, []), "nothing is missing, so nothing runs"


def test_a_changed_recipe_runs_again(toy, jobs_of, run, machine, monkeypatch):
    names = ("no cache", "cache")
    jobs, rows = jobs_of(toy, variants=names, steps=2), Rows(machine.runs)
    run(jobs)
    changed = dataclasses.replace(toy.variants[1], cache=dataclasses.replace(toy.variants[1].cache, queue_length=1))
    monkeypatch.setitem(STUDIES, "toy", dataclasses.replace(toy, variants=(toy.variants[0], changed)))
    assert len(rows.of(jobs)) == 2, "a row of another recipe is not the job's"
    _, said = run(jobs)
    assert len(said) == 2
    assert all("cache, " in line and "no cache" not in line for line in said)
    assert len(rows.of(jobs)) == 4
    assert len(rows.read()) == 6


def test_the_key_forgets_places_and_knows_seeds(toy, jobs_of, objects, tmp_path):
    (first, *_), (other, *_) = jobs_of(toy), jobs_of(toy, seeds=(1,))
    moved = objects.rename(tmp_path / "elsewhere")
    there = dataclasses.replace(first, input=find_objects(moved)[0])
    other = dataclasses.replace(other, input=there.input)
    prior = str(shutil.copytree(first.prior, tmp_path / "prior"))
    assert there.identity == dataclasses.replace(first, input=there.input, prior=prior).identity
    assert there.identity != other.identity


def test_a_run_that_two_studies_ask_for_is_one_row_with_both_labels(toy, jobs_of, run, machine, monkeypatch):
    other = Study(name="other", title="", question="", variants=(dataclasses.replace(toy.variants[1], name="reused"),))
    monkeypatch.setitem(STUDIES, "other", other)
    mine, theirs, rows = jobs_of(toy, variants=("cache",), steps=2), jobs_of(other, steps=2), Rows(machine.runs)
    assert len(rows.missing(mine + theirs)) == 2, "a run an object, not a study"
    assert [job.study for job in rows.missing(theirs + mine)] == ["other", "other"], "the first who asks runs it"
    assert len(run(mine + theirs)[1]) == len(rows.read()) == 2
    assert rows.missing(theirs) == []
    of_both = rows.of(mine), rows.of(theirs)
    assert [{row.pop("variant") for row in found} for found in of_both] == [{"cache"}, {"reused"}]
    assert of_both[0] == of_both[1]


def test_objects_have_seeds_of_their_own_and_variants_share_them(toy, jobs_of):
    seeds = {}
    for job in jobs_of(toy, seeds=(0, 1)):
        seeds.setdefault((job.input.name, job.seed), set()).add(job.recipe().seed)
    assert all(len(found) == 1 for found in seeds.values()), "variants are paired"
    assert len({seed for found in seeds.values() for seed in found}) == 4, "two objects, two seeds"
    caches = {job.recipe().cache.seed for job in jobs_of(toy, variants=("cache",)) if job.input.name == "cup"}
    assert caches == seeds["cup", 0]


def test_a_broken_variant_is_reported_and_the_others_go_on(toy, jobs_of, run, machine, monkeypatch):
    no_such_cut = dataclasses.replace(REUSING, cut=-99)
    variants = (Variant(name="broken", cache=no_such_cut, change=small), Variant(name="whole", change=small))
    monkeypatch.setitem(STUDIES, "toy", dataclasses.replace(toy, variants=variants))
    jobs = jobs_of(STUDIES["toy"], steps=2)
    failed, said = run(jobs)
    assert failed == 2
    assert {row["variant"] for row in Rows(machine.runs).of(jobs)} == {"whole"}
    assert sum("FAILED toy: broken" in line and "Expected the cut to be" in line for line in said) == 2


def test_time_runs_out(toy, jobs_of, run, machine, monkeypatch):
    jobs, hold = jobs_of(toy), threading.Event()

    def attempt(job, machine):
        if job.label != "no cache":
            hold.wait(10)
        return Outcome(job=job, row={"seconds": {"total": 0}, "variant": job.label})

    monkeypatch.setattr(runner, "attempt", attempt)
    failed, said = run(jobs, seconds=0.5)
    hold.set()
    assert failed == 0
    assert said[-1] == "stopped after 0.5 seconds: 3 runs are left", "of 2 objects and 2 different variants"
    assert [row["variant"] for row in Rows(machine.runs).read()] == ["no cache"]


@pytest.mark.nightly
def test_the_command_runs_in_processes_then_only_writes_the_pages(objects, prior_folder, tmp_path, monkeypatch):
    """Two studies that share a run."""
    pages, runs = tmp_path / "docs", tmp_path / "runs"
    words = ["on_off", "frontier", "--objects", objects, "--runs", runs, "--pages", pages, "--steps", "1"]
    words += ["--priors", prior_folder, "--threads", "1", "--commit", "abc", "--variants", "default", "--seeds", "0"]
    words = list(map(str, words))
    assert main([*words, "--runs-only"]) == 0
    assert not pages.exists()
    assert len(Rows(runs).read()) == 2, "a run an object"
    monkeypatch.setattr(runner.multiprocessing, "get_context", None)  # No more processes from here on.
    assert main(words) == 0
    for name in ("on_off", "frontier"):
        text = (pages / f"{name}.md").read_text()
        assert "commit abc" in text
        assert f"python -m research.experiments {name} " in text
        assert Image.open(pages / f"{name}.jpg").size == (128 + 2 * 512, 16 + 2 * 128)
    assert {path.name for path in pages.glob("*.png")} == {"frontier.png"}


@pytest.mark.nightly
def test_times_of_passes_are_a_row_of_their_own(prior_folder, tmp_path):
    assert main(["--time-passes", "--runs", str(tmp_path), "--priors", str(prior_folder), "--threads", "1"]) == 0
    rows = Rows(tmp_path)
    (row,) = rows.read()
    assert find_timing(rows, "cpu") == row
    assert find_timing(rows, "cuda") is None
    assert len(row["pass_ms"]["shallow"]) == 6
    assert rows.of([]) == []


def test_an_unknown_study_is_named():
    with pytest.raises(ValueError, match=r"Expected studies \(on_off, .*but got 'of_on'"):
        main(["on_off", "of_on"])
