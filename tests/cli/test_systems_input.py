"""What each system is given: the nine start, and every mistake is one sentence, exit code 2, and leaves nothing."""

import re
import shutil
import sys

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hash3d.scenes.build import build_model, save_model
from hash3d.systems import SYSTEMS
from hash3d.training.run_folder import RunFolder

PROMPT = ("--prompt", "a red mug")
FROM_TEXT = [system.name for system in SYSTEMS if system.inputs == ("prompt",)]
FROM_PICTURE = [system.name for system in SYSTEMS if system.inputs == ("image",)]


@pytest.fixture
def refused(hash3d, tmp_path):
    """Run `generate SYSTEM ... --out run`, which must be refused with a pattern and leave no file behind."""

    def run(pattern, system, *options):
        before = sorted(tmp_path.rglob("*"))
        code, out, err = hash3d("generate", system, *options, "--out", tmp_path / "run", "--scale", "mini")
        assert code == 2, err
        assert out == ""
        assert re.search(pattern, err), err
        assert len(err.strip().splitlines()) == 1
        assert err.startswith("hash3d: ")
        assert sorted(tmp_path.rglob("*")) == before

    return run


@pytest.fixture
def priors(prior_folder, text_prior_folder):
    """The options of the tiny priors, by what a system starts from."""
    return {
        ("image",): ("--prior", prior_folder),
        ("prompt",): ("--prior", text_prior_folder),
        ("image", "prompt"): ("--prior", prior_folder, "--text-prior", text_prior_folder),
    }


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda system: system.name)
def test_a_system_needs_what_it_starts_from(refused, picture_file, system):
    given = {"image": ("--image", picture_file), "prompt": PROMPT}
    told = {"image": "a picture", "prompt": "a text"}
    start = " and ".join(told[name] for name in system.inputs)
    for missing in system.inputs:
        options = [part for name in system.inputs if name != missing for part in given[name]]
        refused(f"{system.name} starts from {start}. Pass ", system.name, *options)
    for other in set(given) - set(system.inputs):
        both = [part for options in given.values() for part in options]
        refused(f"Unrecognized options: --{other}", system.name, *both)


@pytest.mark.parametrize(
    ("system", "option"),
    [
        ("zero123_nerf", ("--start", "box.ply")),
        ("zero123_gs", ("--start", "box.ply")),
        ("dreamgaussian", ("--negative-prompt", "ugly")),
        ("zero123_gs", ("--text-prior", "mini-sd")),
        ("dreamfusion", ("--text-prior", "mini-sd")),
        ("magic3d", ("--framing", "keep")),
        ("dreamfusion", ("--pose", "xl")),
        ("latent_nerf", ("--elevation", "10")),
        ("dreamfusion", ("--start", "box.ply")),
    ],
)
def test_an_option_that_a_system_does_not_know(refused, picture_file, system, option):
    given = PROMPT if system in FROM_TEXT else ("--image", picture_file)
    refused(f"Unrecognized options: {option[0]}", system, *given, *option)


@pytest.mark.parametrize("name", FROM_TEXT)
def test_an_empty_prompt(refused, priors, name):
    refused(f'{name} starts from a text. Pass --prompt "a red mug"', name, "--prompt", "", *priors["prompt",])
    refused("Expected a prompt, but got an empty one", name, "--prompt", "   ", *priors["prompt",])


@pytest.mark.parametrize("name", ["dreamfusion", "magic123"])
def test_a_prompt_of_more_tokens_than_the_model_takes(refused, priors, picture_file, name):
    inputs = ("image", "prompt") if name == "magic123" else ("prompt",)
    picture = ("--image", picture_file) if name == "magic123" else ()
    refused("77 tokens", name, "--prompt", "a red mug " * 30, *picture, *priors[inputs])


@pytest.mark.parametrize("name", FROM_PICTURE)
def test_a_picture_without_alpha_on_a_busy_background(refused, priors, tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "rembg", None)  # As where it is not installed.
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "busy.png")
    refused(
        r"alpha channel or a plain background, but .*busy\.png has neither\. Cut the object out, or .*rembg",
        name, "--image", tmp_path / "busy.png", *priors["image",],
    )  # fmt: skip


@pytest.mark.parametrize("part", ["unet", "vae", "text_encoder", "tokenizer", "scheduler"])
def test_a_text_prior_with_a_missing_part(refused, text_prior_folder, tmp_path, part):
    shutil.copytree(text_prior_folder, tmp_path / "prior")
    shutil.rmtree(tmp_path / "prior" / part)
    refused(part, "dreamfusion", *PROMPT, "--prior", tmp_path / "prior")


def test_magic123_with_a_missing_part_of_its_second_prior(
    refused, prior_folder, text_prior_folder, picture_file, tmp_path
):
    shutil.copytree(text_prior_folder, tmp_path / "prior")
    shutil.rmtree(tmp_path / "prior" / "unet")
    priors = ("--prior", prior_folder, "--text-prior", tmp_path / "prior")
    refused("unet/config.json, but it is missing", "magic123", "--image", picture_file, *PROMPT, *priors)
    priors = ("--prior", prior_folder, "--text-prior", prior_folder)
    refused("text_encoder/config.json, but it is missing", "magic123", "--image", picture_file, *PROMPT, *priors)


def test_starts_that_are_none(refused, priors, tmp_path):
    given = (*PROMPT, *priors["prompt",], "--start")
    vertices = "\n".join(f"v {x} {y} 0" for x, y in ((0, 0), (1, 0), (0, 1)))
    (tmp_path / "no_faces.obj").write_text(vertices + "\n")
    (tmp_path / "text.ply").write_text("no points at all")
    (tmp_path / "empty.ply").write_bytes(trimesh.PointCloud(np.zeros((4, 3))).export(file_type="ply"))
    (tmp_path / "folder").mkdir()
    for name, pattern in {
        "no_faces.obj": "no faces",
        "text.ply": "does not read",
        "empty.ply": "points that differ, but all 4 lie at",
        "none.ply": "there is no file",
        "folder": "folder",
    }.items():
        refused(pattern, "gaussiandreamer", *given, tmp_path / name)


def test_splats_of_what_has_none_are_refused(hash3d, tiny, tmp_path):
    recipe = tiny("dreamfusion")
    RunFolder(tmp_path).create(recipe)
    save_model(tmp_path, build_model(recipe, 0, None, torch.Generator().manual_seed(0)), recipe.stage)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = hash3d("export", tmp_path, "--format", "ply")
    assert (code, out) == (2, "")
    assert err.strip() == "hash3d: Expected splats to write, but a Nerf has none. Export glb or obj."
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert hash3d("export", tmp_path, "--format", "sheet")[0] == 0
