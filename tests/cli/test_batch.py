"""`hash3d batch`: every job is finished once, whoever dies meanwhile."""

import csv
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hash3d.cli import batch
from hash3d.cli.batch import attempt, make_sheet, to_csv, work
from hash3d.cli.batch_jobs import ATTEMPTS, Crew
from tests.pictures.drawing import disc, write


def states(crew: Crew) -> dict[str, str]:
    return {row["job"]: row["state"] for row in csv.DictReader(to_csv(crew).splitlines())}


def test_a_worker_does_what_is_left_and_tries_a_failure_once_more(crew, capsys):
    broken = crew.jobs[0]
    (crew.out / broken.name).mkdir()
    (crew.out / broken.name / "preview.png").write_text("mine")
    work(crew)
    assert states(crew) == {"a_duck": "failed", "mug": "finished"}
    assert capsys.readouterr().out.count("FAILED a_duck: Expected a folder without a run's files") == ATTEMPTS
    commands = [shlex.split(row["command"]) for row in csv.DictReader(to_csv(crew).splitlines())]
    assert commands == [list(job.words) for job in crew.jobs]
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


def kill_a_worker(number: int, parent: int) -> bool:
    """Kill one of the workers of a command, by turns. Returns whether there was one."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    workers = [each for each in children if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes()]
    if workers:
        os.kill(int(workers[number % len(workers)]), signal.SIGKILL)
    return bool(workers)


@pytest.mark.nightly
def test_twelve_jobs_are_finished_once_though_a_worker_is_killed_every_20_seconds(tmp_path, record_property):
    """Checkpoints lose at most five steps, and the rows of metrics.jsonl are those of one run each.

    On a machine so busy that no checkpoint is written within 20 seconds it is killed after the next one.
    """
    (tmp_path / "photos").mkdir()
    for number in range(12):
        pixels = disc(128, (64, 64), 33 + number, color=(20 * number, 200 - 15 * number, 120))
        write(tmp_path / "photos" / f"{number}.png", pixels)
    out, started, kills, last = tmp_path / "many", time.time(), 0, 0.0
    command = [sys.executable, "-m", "hash3d", "batch", tmp_path / "photos", "--out", out, "--workers", "2", "--device"]
    with (tmp_path / "said").open("w+") as file:
        parent = subprocess.Popen([*command, "cpu", "--", "--steps", "60", "--checkpoint-every", "5"], stdout=file)
        while parent.poll() is None:
            with suppress(subprocess.TimeoutExpired):
                parent.wait(20.0)
            saved = max((path.stat().st_mtime for path in out.glob("*/checkpoint/state.pt")), default=last)
            if saved > last and parent.returncode is None:
                kills, last = kills + kill_a_worker(kills, parent.pid), saved
        file.seek(0)
        said = file.read()
    record_property("kills", kills)
    record_property("seconds", round(time.time() - started))
    assert parent.returncode == 0, said
    assert kills > 0
    for number in range(12):
        steps = [json.loads(line)["step"] for line in (out / str(number) / "metrics.jsonl").read_text().splitlines()]
        assert steps == list(range(60))
        assert len(re.findall(rf"^\d+/12 {number}: 60 steps", said, re.MULTILINE)) == 1, said
    assert "12 of 12 jobs are finished" in said
