"""How pictures are encoded, by the command line: what a recipe gets, runs with it, and mistakes in one sentence."""

import json

import pytest

from hash3d.cli import main
from hash3d.cli.generate import build_recipe, parse
from hash3d.recipes.serialize import from_plain, to_plain

PROMPT = ("--prompt", "a red mug")


@pytest.fixture
def generate(capsys, tmp_path):
    """Run `generate SYSTEM ... --out run`; returns exit code and stderr."""

    def run(system, *options):
        arguments = ["generate", system, *options, "--out", tmp_path / "run", "--scale", "mini", "--steps", "2"]
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        return left.value.code, capsys.readouterr().err

    return run


def recipe_of(*arguments):
    return build_recipe(parse([str(argument) for argument in arguments]))


def test_a_recipe_has_its_own_encoding_unless_told(picture_file):
    assert recipe_of("zero123_gs", "--image", picture_file).stage.guidance.encoding == "auto"


def test_every_guidance_of_a_recipe_gets_the_encoding(picture_file):
    both = recipe_of("magic123", "--image", picture_file, *PROMPT, "--encoding", "fixed_norms")
    encodings = [{name: each.encoding for name, each in stage.guidances.items()} for stage in both.stages]
    assert encodings == [{"image": "fixed_norms", "text": "fixed_norms"}] * 2
    denoised = recipe_of("dreamgaussian", "--image", picture_file, "--encoding", "fixed_norms")
    assert denoised.refinement.guidance.guidance.encoding == "fixed_norms"
    assert from_plain(json.loads(json.dumps(to_plain(denoised)))) == denoised


def test_a_run_with_constant_norms(generate, prior_folder, picture_file):
    code, err = generate("zero123_gs", "--image", picture_file, "--prior", prior_folder, "--encoding", "fixed_norms")
    assert code == 0, err


def test_rendered_latents_need_no_encoder(generate, text_prior_folder):
    code, err = generate("latent_nerf", *PROMPT, "--prior", text_prior_folder, "--encoding", "fixed_norms")
    assert code == 2
    assert "Expected no --encoding: latent_nerf renders latents" in err
