"""`hash3d bench` with a tiny prior: its table and its page, and every mistake."""

import re

import pytest
import torch

from hash3d.bench.measure import OFF_EAGER, OFF_FAST, OURS, REPLAY
from hash3d.cli import main
from hash3d.cli.bench import Bench, build_recipe, random_prior
from hash3d.cli.options import find_system


@pytest.fixture
def bench(capsys):
    """Run the command; returns exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["bench", *map(str, arguments)])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


def test_the_table_has_a_row_for_each_case(bench, prior_folder):
    options = ("--scale", "mini", "--device", "cpu", "--steps", 2, "--warm-up", 1)
    code, out, err = bench("zero123_gs", "--prior", prior_folder, *options)
    assert code == 0, err
    for name in (OFF_EAGER, OFF_FAST, OURS, REPLAY):
        assert len(re.findall(rf"^ {name} +2 ", out, re.MULTILINE)) == 1


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (("zero124_gs",), "Expected a system .* but got 'zero124_gs'"),
        (("sds_gs", "--image", "x.png"), "Expected no --image: sds_gs"),
        (("sds_gs", "--text-prior", "mini-sd"), "Expected no --text-prior"),
        (("zero123_gs", "--image", "no.png"), "no.png"),
        (("zero123_gs", "--steps", "0"), "Expected steps between 1 and .*, but got 0"),
        (("zero123_gs", "--warm-up", "0"), "Expected --warm-up of at least 1 step, but got 0"),
        (("zero123_gs", "--prior", "no_such_folder"), "no folder 'no_such_folder'"),
    ],
)
def test_mistakes(bench, options, pattern):
    code, out, err = bench(*options, "--device", "cpu")
    assert code == 2
    assert re.search(pattern, err), err
    assert "Traceback" not in err
    assert out == ""


def test_gaussians_start_from_a_ball_at_full_scale_alone(tmp_path):
    def start(system, **options):
        return build_recipe(Bench(system=system, **options), tmp_path, torch.device("cpu")).start

    assert start("gaussiandreamer", prior="a/folder").file == tmp_path / "ball.ply"
    assert start("sds_gs", scale="supplement").file == tmp_path / "ball.ply"
    assert start("gaussiandreamer", scale="mini") is start("gaussiandreamer") is None


def test_random_priors_lie_in_the_users_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    written = []
    monkeypatch.setattr("hash3d.diffusion.random_weights.write_random_prior", lambda *given, **_: written.append(given))
    folder = tmp_path / "hash3d/random/stable-zero123"
    assert random_prior(find_system("zero123_gs"), 0, torch.device("cpu")) == str(folder)
    assert written == [("stable-zero123", folder)]
