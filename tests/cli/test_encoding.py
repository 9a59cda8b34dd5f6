"""How pictures are encoded, by the command line: what a recipe gets, runs with it, and mistakes in one sentence."""

import json

import pytest

from hash3d.cli import main
from hash3d.cli.generate import build_recipe, parse
from hash3d.training.serialize import from_plain, to_plain
from tests.tiny_models import tiny_tiny_autoencoder

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


@pytest.fixture
def tiny_folder(tmp_path):
    tiny_tiny_autoencoder().save_pretrained(tmp_path / "taesd")
    return tmp_path / "taesd"


def recipe_of(*arguments):
    return build_recipe(parse([str(argument) for argument in arguments]))


def test_a_recipe_has_its_own_encoding_unless_told(picture_file):
    assert recipe_of("zero123_gs", "--image", picture_file).stage.encodings == {"auto"}


def test_every_guidance_of_a_recipe_gets_the_encoding(picture_file):
    both = recipe_of("magic123", "--image", picture_file, *PROMPT, "--encoding", "half")
    assert [stage.text_guidance.encoding for stage in both.stages] == ["half", "half"]
    assert [stage.guidance.encoding for stage in both.stages] == ["half", "half"]
    denoised = recipe_of("dreamgaussian", "--image", picture_file, "--encoding", "fixed_norms")
    assert denoised.refinement.guidance.guidance.encoding == "fixed_norms"
    assert from_plain(json.loads(json.dumps(to_plain(denoised)))) == denoised


def test_a_run_by_a_tiny_autoencoder_can_be_resumed(generate, prior_folder, picture_file, tiny_folder, tmp_path):
    options = ["--image", picture_file, "--prior", prior_folder]
    code, err = generate("zero123_gs", *options, "--encoding", "tiny", "--tiny-autoencoder", tiny_folder)
    assert code == 0, err
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert recipe["stage"]["guidance"]["encoding"] == "tiny"
    assert recipe["tiny_autoencoder"] == str(tiny_folder)
    code, err = generate("zero123_gs", "--resume")
    assert code == 0, err


@pytest.mark.parametrize("encoding", ["fixed_norms", "half", "half_gradient"])
def test_a_run_by_each_other_encoding(generate, prior_folder, picture_file, encoding):
    code, err = generate("zero123_gs", "--image", picture_file, "--prior", prior_folder, "--encoding", encoding)
    assert code == 0, err


def test_mistakes_are_told_in_one_sentence(generate, text_prior_folder, tiny_folder, tmp_path):
    tiny = ("--encoding", "tiny", "--tiny-autoencoder")
    for options, sentence in (
        (tiny[:2], "Expected a tiny autoencoder with the encoding 'tiny' and with no other, but got none."),
        ((*tiny[2:], tiny_folder), "and with no other, but got "),
        ((*tiny, tmp_path / "nowhere"), "Expected the tiny autoencoder to be an existing folder"),
        ((*tiny, text_prior_folder), "config.json, but it is missing"),
    ):
        code, err = generate("sds_gs", *PROMPT, "--prior", text_prior_folder, *options)
        assert code == 2, err
        assert sentence in err
        assert len(err.strip().splitlines()) == 1
        assert not (tmp_path / "run").exists()


def test_rendered_latents_need_no_encoder(generate, text_prior_folder):
    code, err = generate("latent_nerf", *PROMPT, "--prior", text_prior_folder, "--encoding", "half")
    assert code == 2
    assert "Expected no --encoding: latent_nerf renders latents" in err
