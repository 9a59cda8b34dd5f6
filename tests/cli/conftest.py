"""Run commands in this process, and expect their mistakes."""

import re
import shutil
import time

import pytest

from hash3d.cli import main
from hash3d.cli.batch_jobs import Crew, read_jobs


@pytest.fixture
def hash3d(capsys):
    """Run a command; returns exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as exit_:
            main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return exit_.value.code, out, err

    return run


@pytest.fixture
def generate(hash3d, prior_folder, picture_file, tmp_path):
    """A short run with the tiny prior; keyword `image` or `prior` None leaves the option away."""

    def run(*extra, image=picture_file, prior=prior_folder, out=tmp_path / "run"):
        given = {"--image": image, "--prior": prior, "--out": out}
        options = [part for name, value in given.items() if value is not None for part in (name, value)]
        return hash3d("generate", "zero123_gs", *options, "--scale", "mini", "--steps", 2, *extra)

    return run


@pytest.fixture
def generate_of_text(hash3d, text_prior_folder, tmp_path):
    """The same of a text."""

    def run(*extra, prompt="a red mug", out=tmp_path / "run"):
        options = ["--prior", text_prior_folder, "--out", out, "--scale", "mini", "--steps", 2]
        return hash3d("generate", "sds_gs", "--prompt", prompt, *options, *extra)

    return run


@pytest.fixture
def photos(tmp_path, picture_file):
    for name in ("mug.png", "a duck.PNG", ".hidden.png", "notes.txt"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        shutil.copy(picture_file, tmp_path / "photos" / name)
    return tmp_path / "photos"


def assert_refused(result, pattern):
    """Exit code 2, one sentence, no traceback."""
    code, _, err = result
    assert code == 2
    assert re.search(pattern, err), err
    assert "Traceback" not in err
    assert len(err.strip().splitlines()) == 1


def wait_until(true):
    """Wait until it is so, at most a minute."""
    limit = time.monotonic() + 60
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.01)


@pytest.fixture
def crew(photos, tmp_path, prior_folder):
    """Two jobs of two steps with the tiny prior."""
    (tmp_path / "many" / ".claims").mkdir(parents=True)
    shared = ["--prior", str(prior_folder), "--scale", "mini", "--steps", "2"]
    return Crew(tuple(read_jobs(photos, None, shared)), tmp_path / "many", "cpu", 1, "this command")
