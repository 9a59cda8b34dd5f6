"""`hash3d generate`: what works, and every mistake answered by one sentence and exit code 2."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hash3d.cli.generate import build_recipe, new_name, parse
from hash3d.systems.stages import VIEW_ORDER
from tests.cli.conftest import assert_refused


def test_a_stage_with_its_own_cache_keeps_its_own_order_of_views(picture_file):
    """DreamGaussian's second stage denoises whole pictures: it has nothing to return to a cell for."""
    for options, dwells in (
        (["--replay-every", "0"], (4, 1)),
        (["--preset", "paper"], (1, 1)),
        (["--dwell", "2"], (2, 2)),
    ):
        recipe = build_recipe(parse(["dreamgaussian", "--image", str(picture_file), *options]))
        assert tuple(stage.view_order.visits_per_cell for stage in recipe.stages) == dwells
        assert build_recipe(parse(["dreamgaussian", "--image", str(picture_file), *options, "--no-cache"])).stages == (
            recipe.stages
        )


@pytest.mark.parametrize(
    ("options", "kind"), [(["--no-cache"], None), (["--preset", "paper"], "hash3d.cache.config:Hash3DConfig")]
)
def test_cache_options(generate, tmp_path, options, kind):
    assert generate(*options)[0] == 0
    cache = json.loads((tmp_path / "run" / "recipe.json").read_text())["cache"]
    assert (cache and cache["type"]) == kind


def test_deepcache_preset_has_its_own_options(generate, tmp_path):
    assert generate("--preset", "deepcache", "--cache.interval", "2")[0] == 0
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["unet"]["shallow"] == 1


def test_a_dwell_is_in_the_cache_s_cells_with_and_without_it(generate, tmp_path):
    drawn = []
    for number, options in enumerate(([], ["--no-cache"])):
        out = tmp_path / f"run{number}"
        assert generate("--dwell", "2", "--cache.grid.azimuth", "45", *options, out=out)[0] == 0
        drawn.append(json.loads((out / "recipe.json").read_text())["stage"]["view_order"])
    assert drawn[0] == drawn[1]
    assert (drawn[0]["visits_per_cell"], drawn[0]["grid"]["azimuth"]) == (2, 45.0)


@pytest.mark.parametrize(
    ("options", "visits"),
    [
        ([], VIEW_ORDER.visits_per_cell),
        (["--no-cache"], VIEW_ORDER.visits_per_cell),
        (["--cache.cut", "-2"], VIEW_ORDER.visits_per_cell),
        (["--dwell", "1"], 1),
        (["--preset", "paper"], 1),
        (["--preset=released", "--no-cache"], 1),
        (["--preset", "deepcache"], 1),
        (["--preset", "paper", "--dwell", "3"], 3),
    ],
)
def test_the_default_preset_revisits_cells_as_its_recipe_and_the_others_do_not(options, visits, picture_file):
    order = build_recipe(parse(["zero123_gs", "--image", str(picture_file), *options])).stage.view_order
    assert (order.visits_per_cell, order.active_cells) == (visits, VIEW_ORDER.active_cells)
    assert VIEW_ORDER.visits_per_cell > 1


@pytest.mark.parametrize(
    ("options", "elevation"),
    [
        ([], 33.0),
        (["--prior", "some/model"], 33.0),
        (["--elevation", "12"], 12.0),
        (["--elevation", "0"], 0.0),
    ],
)
def test_the_elevation_is_estimated_where_it_is_not_given(options, elevation, picture_file, monkeypatch):
    monkeypatch.setattr("hash3d.pictures.elevation.estimate_elevation", lambda path, framing: 33.0)
    recipe = build_recipe(parse(["zero123_gs", "--image", str(picture_file), *options]))
    assert recipe.reference_elevation == elevation


def test_an_estimated_elevation_is_told(generate, tmp_path):
    code, _, err = generate()
    told = json.loads((tmp_path / "run" / "recipe.json").read_text())["reference_elevation"]
    assert code == 0
    assert f"elevation of the image: {told:g} degrees" in err
    assert "elevation of the image" not in generate("--elevation", "12", out=tmp_path / "other")[2]


def bad_pictures(folder):
    """File name to the words of the answer."""
    (folder / "text.png").write_text("this is no picture")
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "whole.png")
    (folder / "truncated.png").write_bytes((folder / "whole.png").read_bytes()[:4000])
    Image.new("RGBA", (1, 1), (255, 0, 0, 255)).save(folder / "one_pixel.png")
    Image.new("RGBA", (64, 64), (255, 0, 0, 0)).save(folder / "transparent.png")
    return {
        "missing.png": "missing.png",
        "text.png": "picture",
        "truncated.png": "truncated|cut off|incomplete|whole",
        "one_pixel.png": "1 ?x ?1",
        "transparent.png": "transparent",
        "whole.png": r"hash3d\[rembg\]",
    }


def test_bad_pictures(generate, tmp_path):
    for name, words in bad_pictures(tmp_path).items():
        assert_refused(generate(image=tmp_path / name), words)
        assert not (tmp_path / "run").exists(), "nothing is left behind by a mistake"


def test_unusual_pictures_work(generate, tmp_path):
    grey = np.zeros((64, 64), dtype=np.uint16)
    grey[16:48, 16:48] = 40000
    Image.fromarray(grey).save(tmp_path / "sixteen_bit.png")
    palette = Image.new("P", (64, 64), 0)
    palette.putpalette([255, 255, 255, 200, 0, 0])
    palette.paste(1, (16, 16, 48, 48))
    palette.save(tmp_path / "palette.png", transparency=0)
    for name in ("sixteen_bit.png", "palette.png"):
        assert generate(image=tmp_path / name, out=tmp_path / name.split(".")[0])[0] == 0


def test_mistaken_options(generate, hash3d, tmp_path):
    assert_refused(generate("--steps", "-3"), "at least 1 step, but got -3")
    assert_refused(generate("--dwell", "0"), "--dwell to be at least 1 visit, but got 0")
    assert_refused(generate("--preset", "fast"), "--preset to be one of .* but got 'fast'")
    assert_refused(generate("--elevation", "100"), "between -90 and 90")
    assert_refused(generate("--prompt", "a cat"), "Unrecognized options: --prompt, .*generate zero123_gs --help")
    assert_refused(generate("--loss-scale", "colour", "2"), "a loss of zero123_gs .*color.*, but got 'colour'")
    assert_refused(generate(image=None), "--image PATH")
    assert_refused(generate("--resume", out=None), "--out")
    assert_refused(generate(prior="mini-sd"), "mini-sd to hold clip_camera_projection/config.json")
    assert_refused(hash3d("generate", "zero124_gs"), "Expected a system")
    assert_refused(hash3d("evaluate", tmp_path / "nothing", "--truth", tmp_path), "no recipe.json")
    assert_refused(hash3d("export", tmp_path / "nothing", "--format", "ply"), "no recipe.json")
    code, _, err = generate("--reuse", "0.5")
    assert code == 2
    assert "Traceback" not in err


def test_a_text_becomes_an_asset(generate_of_text, hash3d, tmp_path):
    assert generate_of_text("--negative-prompt", "a photo")[0] == 0
    for name in ("model.ply", "preview.png", "turntable.mp4"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["prompt"], recipe["negative_prompt"], recipe["image"]) == ("a red mug", "a photo", None)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["system"], summary["framing"], summary["completed"]) == ("sds_gs", None, True)
    assert hash3d("generate", "sds_gs", "--resume", "--out", tmp_path / "run")[0] == 0


def test_mistaken_texts(generate_of_text, hash3d, picture_file):
    assert_refused(generate_of_text(prompt=""), 'sds_gs starts from a text. Pass --prompt "a red mug"')
    assert_refused(hash3d("generate", "sds_gs"), "starts from a text")
    assert_refused(generate_of_text(prompt="a red mug " * 40), "77 tokens")
    assert_refused(generate_of_text("--image", picture_file), "Unrecognized options: --image")
    assert_refused(generate_of_text("--elevation", "10"), "Unrecognized options: --elevation")
    assert_refused(generate_of_text("--prior", "mini-zero123"), "text_encoder/config.json, but it is missing")


def test_a_text_s_own_folder():
    options = parse(["sds_gs", "--prompt", "a red mug, with a handle!"])
    assert new_name(options) == "sds_gs-a_red_mug_with_a_handle"


def test_mistaken_folders(generate, tmp_path):
    assert generate()[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert_refused(generate(), "holds one. Pass --resume")
    assert_refused(generate("--seed", "3", "--resume"), "seed: 3 against 0")
    assert_refused(generate(image=None), "--image PATH")
    assert {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()} == before
    (tmp_path / "file").write_text("")
    assert_refused(generate(out=tmp_path / "file"), "file is a file. Pass another --out")
    assert_refused(generate(out=tmp_path / "file" / "run"), "Could not write .*Not a directory. Check the path")
    assert_refused(generate(out="/proc/hash3d"), "Could not write /proc/hash3d: No such file")
    assert_refused(generate(out=""), "Expected --out to name a folder")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder(generate, tmp_path):
    tmp_path.chmod(0o500)
    assert_refused(generate(), "Permission denied")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk(generate, tmp_path, monkeypatch):
    """Every byte goes to a device that is always full."""

    def write_to_full_device(path, content):
        with open("/dev/full", "wb") as device:
            device.write(content)

    monkeypatch.setattr(Path, "write_bytes", write_to_full_device)
    assert_refused(generate(), "Could not write .*recipe.json: No space left on device. Free some space")


@pytest.mark.parametrize("part", ["unet", "vae", "image_encoder", "clip_camera_projection", "scheduler"])
def test_prior_with_a_missing_part(generate, prior_folder, tmp_path, part):
    shutil.copytree(prior_folder, tmp_path / "prior")
    shutil.rmtree(tmp_path / "prior" / part)
    assert_refused(generate(prior=tmp_path / "prior"), part)
    assert not (tmp_path / "run").exists()


def test_prior_with_a_wrong_shaped_part(generate, prior_folder, tmp_path):
    shutil.copytree(prior_folder, tmp_path / "prior")
    config = tmp_path / "prior" / "unet" / "config.json"
    config.write_text(config.read_text().replace('"in_channels": 8', '"in_channels": 4'))
    assert_refused(generate(prior=tmp_path / "prior"), "unet")
    assert_refused(generate(prior=tmp_path / "no_such_prior"), "no folder")
    assert_refused(
        generate(prior=tmp_path / "prior" / "model_index.json"), "to be a diffusers folder, a .safetensors or a .ckpt"
    )
