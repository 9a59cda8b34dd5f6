"""A study small enough for a test: two objects, one of them with true views, and runs of a few steps."""

import dataclasses
import json
import shutil
from multiprocessing.pool import ThreadPool

import pytest
from PIL import Image

from hash3d.cache import GridConfig, Hash3DConfig
from hash3d.schedules import constant
from hash3d.table.objects import Machine, find_objects
from hash3d.table.runner import Rows, run_missing
from research.experiments.job import find_jobs
from research.experiments.studies import STUDIES
from research.experiments.study import Study, Variant

REUSING = Hash3DConfig(reuse_probability=0.7, grid=GridConfig(azimuth=360, elevation=180, timestep=1000))


def small(recipe):
    stage = recipe.stage
    stage = dataclasses.replace(
        stage,
        size=constant(32),
        reference_size=constant(32),
        representation=dataclasses.replace(stage.representation, num_points=40),
    )
    return dataclasses.replace(recipe, stage=stage)


@pytest.fixture
def objects(tmp_path, picture_file):
    """`cup` has two true views, `disc` is a picture."""
    folder = tmp_path / "objects"
    (folder / "cup").mkdir(parents=True)
    shutil.copy(picture_file, folder / "disc.png")
    shutil.copy(picture_file, folder / "cup" / "input.png")
    views = [{"file": f"{n}.png", "elevation_deg": 0, "azimuth_deg": 90.0 * n} for n in range(2)]
    for view in views:
        Image.new("RGBA", (32, 32), (200, 30, 30, 255)).save(folder / "cup" / view["file"])
    given = {"file": "input.png", "elevation_deg": 15, "azimuth_deg": 0}
    camera = {"distance": 1.5, "fov_y_deg": 49.1, "object_radius": 0.5, "size": 32}
    (folder / "cup" / "views.json").write_text(json.dumps({**camera, "input": given, "views": views}))
    return folder


@pytest.fixture
def toy(monkeypatch):
    """Three variants; the last two differ in nothing."""
    study = Study(
        name="toy",
        title="A toy",
        question="Does it run?",
        variants=(
            Variant(name="no cache", change=small),
            Variant(name="cache", cache=REUSING, change=small),
            Variant(name="same cache", cache=REUSING, change=small),
        ),
    )
    monkeypatch.setitem(STUDIES, "toy", study)
    return study


@pytest.fixture
def machine(tmp_path):
    return Machine(runs=tmp_path / "runs")


@pytest.fixture
def jobs_of(objects, prior_folder):
    def jobs_of(study, **options):
        return find_jobs(study, find_objects(objects), priors=[str(prior_folder)], **{"steps": 6, **options})

    return jobs_of


@pytest.fixture
def run(machine):
    """Runs what is missing in threads of this process. Returns how many failed, and what was said."""

    def run(jobs, **options):
        said = []
        failed = run_missing(jobs, Rows(machine.runs), machine, pool=ThreadPool(1), say=said.append, **options)
        return failed, said

    return run
