"""The jobs of `hash3d batch`: folders of pictures, prompts, and JSON lines with any option."""

import json
import shutil

import pytest

from hash3d.cli.batch_jobs import DEATHS, JOB, place_jobs, read_jobs
from tests.cli.conftest import assert_refused


def test_a_folder_of_pictures(photos):
    jobs = read_jobs(photos, None, ["--quality", "fast"])
    assert [(job.name, job.words[0]) for job in jobs] == [("a_duck", "zero123_gs"), ("mug", "zero123_gs")]
    options = jobs[1].options(photos.parent / "many", "cpu")
    assert (options.image, options.quality) == (photos / "mug.png", "fast")
    assert options.out == photos.parent / "many" / "mug"


def test_what_is_no_picture_in_a_folder_is_told(photos):
    (photos / "phone.heic").touch()
    (photos / "more").mkdir()
    with pytest.warns(UserWarning, match=r"no picture that is read: .*more, .*phone\.heic\."):
        assert len(read_jobs(photos, None, [])) == 2


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_prompts(encoding, tmp_path):
    """Also as Windows' editors save it, with a byte order mark."""
    file = tmp_path / "prompts.txt"
    file.write_text("# toys\na red mug\n\n--help\n  # indented\n a red mug \n", encoding=encoding)
    jobs = read_jobs(file, None, [])
    assert [job.name for job in place_jobs(jobs, tmp_path)] == ["a_red_mug", "help", "a_red_mug-2"]
    assert [job.options(tmp_path, "cpu").prompt for job in jobs] == ["a red mug", "--help", "a red mug"]
    assert jobs[0].words[0] == "sds_gs"


def test_json_lines_take_any_option(tmp_path, picture_file):
    shutil.copy(picture_file, tmp_path / "disc.png")
    lines = [
        {
            "image": "disc.png",
            "system": "dreamgaussian",
            "name": "my disc",
            "steps": 30,
            "no_cache": False,
            "seed": None,
        },
        {"prompt": "a duck", "no-cache": True, "cache.verify": False, "loss_scale": ["opacity", 0.5]},
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    first, second = (job.options(tmp_path, "cpu") for job in read_jobs(tmp_path / "jobs.jsonl", "sds_gs", []))
    assert (first.system, first.out, first.image) == ("dreamgaussian", tmp_path / "my_disc", tmp_path / "disc.png")
    assert (first.steps, first.no_cache) == (30, False)
    assert (second.system, second.no_cache, second.cache.verify) == ("sds_gs", True, False)
    assert second.loss_scale == {"opacity": 0.5}


def test_a_run_is_a_jobs_own_by_what_was_asked(photos, tmp_path):
    """Not by its name or its place: of another seed, picture or prior it is another's, and the job goes beside it."""
    out, jobs, given = tmp_path / "many", tmp_path / "jobs.jsonl", {"image": str(photos / "mug.png"), "scale": "mini"}
    for name, weights in (("mine", "some"), ("moved", "some"), ("others", "other")):
        (tmp_path / name / "final").mkdir(parents=True)
        (tmp_path / name / "final" / "weights").write_text(weights)

    def place(*seeds, prior="mine"):
        lines = [{**given, "prior": str(tmp_path / prior / "final"), "seed": each} for each in seeds]
        jobs.write_text("\n".join(map(json.dumps, lines)))
        return place_jobs(read_jobs(jobs, None, []), out)

    for job in place(1):
        (out / job.name).mkdir(parents=True)
        (out / job.name / "recipe.json").touch()
        (out / job.name / JOB).write_text(job.key)
    assert [job.name for job in place(1)] == ["mug"]
    assert [job.name for job in place(7, 1)] == ["mug-2", "mug"]
    assert [job.name for job in place(1, prior="moved")] == ["mug"]
    assert [job.name for job in place(1, prior="others")] == ["mug-2"]
    (photos / "mug.png").write_bytes((photos / "mug.png").read_bytes() + b"another")
    assert [job.name for job in place(1)] == ["mug-2"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"image": 1', "in line 1 of"),
        ('{"prompt": "a"}\n{"steps": 3}', "in line 2 of .*steps"),
        ('{"prompt": "a", "stepz": 3}', "stepz"),
        ('{"image": "none.png"}', "there is no file .*none.png"),
        ('{"prompt": "a", "system": "nerf"}', "Expected a system"),
        ("\n", "Expected jobs in"),
    ],
)
def test_a_mistake_is_told_before_anything_runs(hash3d, tmp_path, text, said):
    (tmp_path / "jobs.jsonl").write_text(text)
    assert_refused(hash3d("batch", tmp_path / "jobs.jsonl", "--out", tmp_path / "many"), said)
    assert_refused(hash3d("batch", tmp_path / "none", "--out", tmp_path / "many"), "there is no .*none")
    assert not (tmp_path / "many").exists()


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


def test_a_broken_picture_fails_alone(tmp_path, picture_file):
    """Its job is there: the run says what is wrong with it."""
    photos = tmp_path / "photos"
    photos.mkdir()
    shutil.copy(picture_file, photos / "disc.png")
    (photos / "text.png").write_text("this is no picture")
    assert [job.name for job in place_jobs(read_jobs(photos, None, []), tmp_path / "out")] == ["disc", "text"]
