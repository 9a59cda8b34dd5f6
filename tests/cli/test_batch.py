"""`hash3d batch`: every job is finished once, whoever dies meanwhile."""

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hash3d.cli import batch
from hash3d.cli.batch import Crew, attempt, make_sheet, to_csv, work
from hash3d.cli.batch_jobs import read_jobs


@pytest.fixture
def crew(photos, tmp_path, prior_folder):
    """Two jobs of two steps with the tiny prior."""
    (tmp_path / "many" / ".claims").mkdir(parents=True)
    shared = ["--prior", str(prior_folder), "--scale", "mini", "--steps", "2"]
    return Crew(tuple(read_jobs(photos, None, shared)), tmp_path / "many", "cpu", 1, "this command")


def states(crew: Crew) -> dict[str, str]:
    return {row["job"]: row["state"] for row in csv.DictReader(to_csv(crew).splitlines())}


def test_a_worker_does_what_is_left_and_tries_a_failure_once_more(crew, capsys):
    broken = crew.jobs[0]
    (crew.out / broken.name).mkdir()
    (crew.out / broken.name / "preview.png").write_text("mine")
    work(crew)
    assert states(crew) == {"a_duck": "failed", "mug": "finished"}
    assert capsys.readouterr().out.count("FAILED a_duck: Expected a folder without a run's files") == batch.ATTEMPTS
    made = (crew.out / "mug" / "summary.json").stat().st_mtime_ns
    (crew.out / broken.name / "preview.png").unlink()
    again = Crew(crew.jobs, crew.out, "cpu", 1, "another command")
    work(again)
    assert states(again) == {"a_duck": "finished", "mug": "finished"}
    assert (crew.out / "mug" / "summary.json").stat().st_mtime_ns == made, "it is not run again"
    asked = tuple(replace(job, key="of another seed") for job in crew.jobs)
    assert states(Crew(asked, crew.out, "cpu", 1, "a third")) == {"a_duck": "open", "mug": "open"}
    width, height = Image.open(crew.out / "mug" / "preview.png").size
    sheet = Image.open(io.BytesIO(make_sheet(again)))
    assert sheet.size == (batch.STRIP_WIDTH, 2 * height)
    assert width < batch.STRIP_WIDTH


def test_a_claimed_job_is_left_to_its_worker_and_taken_over_when_that_dies(crew, monkeypatch):
    """A worker waits for what others do; a lock ends with its process."""
    tried, waited = [], []
    monkeypatch.setattr(batch, "attempt", lambda crew, job: tried.append(job.name) or attempt(crew, job))
    path = crew.out / ".claims" / f"{crew.jobs[0].name}.jsonl"
    hold = (
        f"import fcntl, time; file = open({str(path)!r}, 'a'); fcntl.flock(file, fcntl.LOCK_EX); print(1, flush=True)"
    )
    other = subprocess.Popen([sys.executable, "-c", f"{hold}; time.sleep(60)"], stdout=subprocess.PIPE)
    other.stdout.read(1)

    def die(seconds: float) -> None:
        waited.append(tuple(tried))
        other.kill()
        other.wait()

    monkeypatch.setattr(time, "sleep", die)
    work(crew)
    assert waited == [("mug",)]
    assert tried == ["mug", "a_duck"]
    assert set(states(crew).values()) == {"finished"}


def test_a_job_whose_workers_keep_dying_is_given_up(crew):
    for _ in range(batch.DEATHS):
        assert not crew.is_settled(crew.jobs[0])
        crew.note(crew.jobs[0])
    assert crew.is_settled(crew.jobs[0])
    assert not crew.is_settled(crew.jobs[1])


@pytest.mark.nightly
def test_killed_workers_lose_nothing(photos, tmp_path, prior_folder):
    out = tmp_path / "many"
    command = [sys.executable, "-m", "hash3d", "batch", photos, "--out", out, "--workers", "2", "--device", "cpu", "--"]
    parent = subprocess.Popen(
        [*command, "--prior", prior_folder, "--scale", "mini", "--steps", "40", "--checkpoint-every", "5"],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    killed = 0
    while parent.poll() is None and killed < 3:
        time.sleep(4.0)
        if list(out.glob("*/checkpoint/state.pt")):
            children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
            for child in children[-1:]:
                os.kill(int(child), signal.SIGKILL)
                killed += 1
    said = parent.communicate(timeout=600)[0]
    assert parent.returncode == 0, said
    assert killed
    for name in ("a_duck", "mug"):
        steps = [json.loads(line)["step"] for line in (out / name / "metrics.jsonl").read_text().splitlines()]
        assert steps == list(range(40))
    assert "2 of 2 jobs are finished" in said
