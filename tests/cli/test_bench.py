"""`hash3d bench` with the tiny priors: the arithmetic of its table, paired cases, JSON and page, and every mistake."""

import json
import re
import statistics
import sys

import pytest

from hash3d.bench.cases import DEEPCACHE, OFF_EAGER, OFF_FAST, OURS, RELEASED_EAGER
from hash3d.bench.summary import amdahl_limit
from hash3d.cli import main
from hash3d.cli.bench import Bench, build_recipe

STEPS, WARM_UP, BLOCK = 8, 8, 4
SHORT = ("--steps", STEPS, "--warm-up", WARM_UP, "--block", BLOCK, "--scale", "mini", "--device", "cpu")


@pytest.fixture
def bench(capsys):
    """Run the command; returns exit code, stdout, stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as left:
            main(["bench", *map(str, arguments)])
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run


@pytest.fixture(scope="module")
def measured(prior_folder, tmp_path_factory):
    """Run it on zero123_gs; returns its JSON and its page, which each run writes anew."""
    folder = tmp_path_factory.mktemp("bench")

    def run(*options):
        files = "--json", folder / "bench.json", "--out", folder / "bench.md"
        with pytest.raises(SystemExit) as left:
            main([str(each) for each in ("bench", "zero123_gs", "--prior", prior_folder, *SHORT, *files, *options)])
        assert left.value.code == 0
        return json.loads((folder / "bench.json").read_text()), folder / "bench.md"

    return run


@pytest.fixture(scope="module")
def first(measured):
    """A run with the package DeepCache."""
    found, page = measured()
    return found, page.read_text()


def by_name(found):
    return {case["name"]: case for case in found["cases"]}


def test_the_table_adds_up(first):
    found, page = first
    cases = by_name(found)
    assert list(cases) == [OFF_EAGER, OFF_FAST, DEEPCACHE, RELEASED_EAGER, OURS]
    off, ours = cases[OFF_EAGER], cases[OURS]
    for case in cases.values():
        steps = [step["ms"] for step in case["each_step"]]
        full, shallow = (sum(step[kind] for step in case["each_step"]) for kind in ("full", "shallow"))
        assert len(steps) == sum(case["blocks"]) == STEPS == full + shallow
        assert case["reused"] == shallow / STEPS
        # The same sums in another order.
        assert case["ms"]["mean"] == pytest.approx(statistics.fmean(steps))
        assert sum(case["parts"].values()) == pytest.approx(case["ms"]["mean"])
        assert case["ms"]["first_quartile"] <= case["ms"]["median"] <= case["ms"]["third_quartile"]
        assert case["unet_share"] == pytest.approx(case["parts"]["U-Net"] / case["ms"]["mean"])
        assert case["over_off"]["mean"] == pytest.approx(off["ms"]["mean"] / case["ms"]["mean"])
        assert case["amdahl_limit"] == pytest.approx(
            amdahl_limit(case["reused"], off["unet_share"], case["shallow_cost"])
        )
        assert case["roofline_ms"]["total"] == pytest.approx(
            case["roofline_ms"]["U-Net"] + case["roofline_ms"]["encoder"]
        )
        assert case["peak_bytes"] is None  # Of a GPU alone.
    assert (
        (off["reused"], off["amdahl_limit"])
        == (cases[OFF_FAST]["reused"], cases[OFF_FAST]["amdahl_limit"])
        == (0.0, 1.0)
    )
    # Eight steps open every cell; of those that follow two of eight are full.
    assert ours["reused"] == 0.75
    assert cases[DEEPCACHE]["cache"]["interval"] == 4
    for name in (DEEPCACHE, RELEASED_EAGER):
        # A step more or less.
        assert cases[name]["reused"] == pytest.approx(0.75, abs=1.01 / STEPS)
    # Reuse leaves operations out, in proportion: (1 - p) full + p shallow, and the encoder's.
    full, shallow = (ours["passes"][0][kind]["operations"] for kind in ("full", "shallow"))
    assert off["operations"] - ours["operations"] == pytest.approx(0.75 * (full - shallow))
    assert page.count(f"| {OURS} | {STEPS} | 75% | {ours['ms']['mean']:.1f} |") == 1


def test_all_cases_saw_the_same_cameras_and_noise(first):
    assert len({case["draws"] for case in first[0]["cases"]}) == 1


def test_another_seed_without_the_package_on_the_same_page(first, measured, monkeypatch):
    """Our own DeepCache stands in."""
    monkeypatch.setitem(sys.modules, "DeepCache", None)
    before, _ = first
    found, path = measured("--seed", "4", "--commit", "abc1234")
    case = by_name(found)[DEEPCACHE]
    assert "our own DeepCache" in case["note"]
    assert case["reused"] == pytest.approx(0.75, abs=1.01 / STEPS)
    assert case["draws"] != by_name(before)[DEEPCACHE]["draws"]
    assert "pip install 'hash3d[bench]'" in path.read_text()
    assert "commit abc1234" in path.read_text()


def test_views_and_a_text(bench, text_prior_folder, tmp_path):
    json_file = tmp_path / "bench.json"
    options = "--prior", text_prior_folder, "--batch-size", 2, "--json", json_file, *SHORT
    code, _, err = bench("sds_gs", *options, "--cache.reuse-probability", "0.0")
    assert code == 0, err
    cases = by_name(json.loads(json_file.read_text()))
    assert all(step["full"] == 2 for step in cases[OURS]["each_step"])
    assert {case["reused"] for case in cases.values()} == {0.0}
    assert {case["views"] for case in cases.values()} == {2}


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        (("zero124_gs",), "Expected a system .* but got 'zero124_gs'"),
        (("zero123_gs", "--prompt", "a mug"), "Expected no --prompt: zero123_gs starts from image"),
        (("sds_gs", "--image", "x.png"), "Expected no --image: sds_gs"),
        (("sds_gs", "--text-prior", "mini-sd"), "Expected no --text-prior"),
        (("zero123_gs", "--image", "no.png"), "no.png"),
        (("zero123_gs", "--stage", "2"), "--stage to be 1 to 1 .* but got 2"),
        (("zero123_gs", "--steps", "1"), "--steps to be at least 2, but got 1"),
        (("zero123_gs", "--warm-up", "0"), "--warm-up to be at least 1"),
        (("zero123_gs", "--batch-size", "0"), "--batch-size to be at least 1"),
        (("zero123_gs", "--engine", "graph"), "Expected a CUDA device for the engine 'graph'"),
        (("zero123_gs", "--out", "page.txt"), "ends in .md"),
        (("zero123_gs", "--json", "/nowhere/x.json"), "existing folder"),
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
        return build_recipe(Bench(system=system, **options), tmp_path).start

    assert start("gaussiandreamer", prior="a/folder").file == tmp_path / "ball.ply"
    assert start("gaussiandreamer", scale="mini") is start("gaussiandreamer") is None
    assert start("sds_gs", scale="supplement", start=tmp_path / "own.ply").file == tmp_path / "own.ply"
    with pytest.raises(ValueError, match="Expected no --start: dreamfusion does not start from a shape"):
        start("dreamfusion", start=tmp_path / "own.ply")


def test_a_page_without_marks_is_not_written_over(bench, tmp_path):
    (tmp_path / "page.md").write_text("# Mine\n")
    code, _, err = bench("zero123_gs", "--out", tmp_path / "page.md", "--device", "cpu")
    assert code == 2
    assert "<!-- measured -->" in err
    assert (tmp_path / "page.md").read_text() == "# Mine\n"
