"""Runs of `hash3d web`, whose command is a short script in place of `hash3d generate`."""

import os
import sys
import time

import pytest

from hash3d.cli import visits
from hash3d.cli.visits import Visits, tell
from tests.cli.conftest import wait_until

RUN = """
import json, pathlib, signal, sys, time
folder = pathlib.Path(sys.argv[-1].removeprefix("--out="))
(folder / "words.json").write_text(json.dumps(sys.argv[1:-1]))
"""
WAIT = """
def stop(*_):
    (folder / "model.ply").touch()
    sys.exit(130)
signal.signal(signal.SIGINT, stop)
print("step 3/10: loss 1.0, 2 s, 7 s left", flush=True)
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """`run(code)`: what a visitor's run yields, where the command is this code."""
    site = Visits(tmp_path, ["--seed=3"])
    monkeypatch.setattr(visits, "LOOK_EVERY", 0.01)

    def start(code, kind="prompt", value="a red mug", purpose="splats"):
        monkeypatch.setattr(visits, "COMMAND", (sys.executable, "-c", RUN + code))
        return site.make("visitor", kind, value, purpose, "fast")

    start.site = site
    yield start
    site.close()


@pytest.mark.parametrize(
    ("kind", "purpose", "system"),
    [
        ("image", "splats", "zero123_gs"),
        ("image", "mesh", "dreamgaussian"),
        ("prompt", "splats", "sds_gs"),
        ("prompt", "mesh", "magic3d"),
    ],
)
def test_the_command_has_what_the_visitor_chose(run, kind, purpose, system):
    """The sentence stays one word, also where it looks like an option."""
    *_, last = run("", kind, "--out /etc/x", purpose)
    words = visits.Path(last.find("words.json")[0]).read_text()
    assert f'["{system}", "--quality=fast", "--checkpoint-every=25", "--seed=3", "--{kind}=--out /etc/x"]' == words
    assert (last.done, last.said[:5], last.find("nothing")) == (True, "done,", [])


def test_a_mistake_is_told_in_the_command_s_own_words(run):
    with pytest.raises(ValueError, match=r"^Expected a picture, but there is none\.$"):
        list(run("sys.exit('step 1\\nhash3d: Expected a picture, but there is none.')"))
    going = run("time.sleep(60)")
    next(going)
    with pytest.raises(ValueError, match="one run at a time"):
        next(run(""))


@pytest.mark.parametrize("value", ["", "a\0b", "x" * 501])
def test_no_process_starts_for_what_is_no_sentence(run, value, tmp_path):
    with pytest.raises(ValueError, match="Expected a sentence of at most 500 characters, but got"):
        next(run("", value=value))
    assert not list(tmp_path.iterdir())


def test_a_stopped_run_keeps_what_there_is(run):
    looks = run(WAIT)
    wait_until(lambda: "step 3 of 10, about" in next(looks).said)
    run.site.find("visitor").stop()
    *between, last = looks
    assert all("finishing the step" in look.said for look in between)
    assert last.said.startswith("stopped early")
    assert last.find("model.ply")


def test_who_leaves_takes_the_run_and_its_files_along(run, tmp_path):
    looks = run(WAIT)
    wait_until(lambda: next(looks).find("words.json"))
    process = run.site.find("visitor").process
    run.site.leave("visitor")
    assert process.poll() == -9
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="without a word"):
        list(looks)


def test_a_run_that_nobody_looks_at_ends(run):
    looks = run(WAIT)
    next(looks)
    looks.close()
    assert run.site.find("visitor").process.poll() == -9


def test_what_is_told_counts_down_from_the_last_line(tmp_path):
    said = tmp_path / "said.txt"
    assert tell(tmp_path, 1.0, stopped=False) == "1 s: starting"
    said.write_text("UserWarning: It is small.\nstep 10/50: loss 1.0, 3,000\ngaussians, 2 s, 40 s left\n")
    os.utime(said, (time.time() - 10,) * 2)
    assert tell(tmp_path, 12.0, stopped=False) == "12 s: step 10 of 50, about 30 s left  \nUserWarning: It is small."
    os.utime(said, (time.time() - 50,) * 2)
    assert tell(tmp_path, 52.0, stopped=False).startswith("52 s: step 10 of 50  \n")
    said.write_text("step 50/50: loss 1.0, 20 s, 0 s left\n")
    assert tell(tmp_path, 52.4, stopped=False) == "52 s: writing the files"
    assert tell(tmp_path, 52.4, stopped=True) == "52 s: finishing the step, then writing the files"
