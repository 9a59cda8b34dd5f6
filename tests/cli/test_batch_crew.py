"""When a job of a batch is settled."""

import json

from hash3d.cli.batch_crew import DEATHS
from hash3d.cli.batch_jobs import JOB


def test_a_job_whose_workers_keep_dying_is_given_up(crew):
    for _ in range(DEATHS):
        assert not crew.is_settled(crew.jobs[0])
        crew.note(crew.jobs[0])
    assert crew.is_settled(crew.jobs[0])
    assert not crew.is_settled(crew.jobs[1])


def test_a_run_that_lacks_a_file_is_not_finished(crew):
    """As when its page, the last to be written, could not be."""
    folder = crew.out / crew.jobs[0].name
    folder.mkdir()
    summary = {"stages": [{}], "steps": 2, "seconds": {"total": 1.0}, "completed": True, "outputs": ["view.html"]}
    (folder / JOB).write_text(crew.jobs[0].key)
    (folder / "summary.json").write_text(json.dumps(summary))
    assert crew.summary(crew.jobs[0]) is None
    (folder / "view.html").touch()
    assert crew.summary(crew.jobs[0]) == summary
    assert crew.is_settled(crew.jobs[0])
