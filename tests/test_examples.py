"""The examples run, and reuse."""

import json
import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parent.parent / "examples"
COMMANDS = {
    "01_stable_diffusion_unet.py": ["--random", "--views", "6"],
    "02_your_own_sds_loop.py": ["--steps", "20"],
    "04_ldm_zero123.py": ["--random", "--views", "12"],
    "03_text_to_3d.py": ["--steps", "16", "--points", "200", "--out", "text_to_3d"],
}


def run(name, arguments, monkeypatch, capsys, folder):
    """Run a script in `folder`, and return what it printed."""
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return capsys.readouterr().out


def test_every_example_is_run_here():
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(COMMANDS)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_an_example_runs_and_reuses(name, monkeypatch, capsys, tmp_path):
    output = run(name, COMMANDS[name], monkeypatch, capsys, tmp_path)
    assert int(re.search(r"(\d+)% of the calls reused", output).group(1)) > 0
    assert " s" in output


@pytest.mark.parametrize("name", list(COMMANDS))
def test_an_example_says_how_it_is_used(name):
    lines = (EXAMPLES / name).read_text().splitlines()
    assert re.fullmatch(r'"""[A-Z].*\.|"""[A-Z].*: .*\.', lines[0])
    assert f"    python examples/{name}" in "\n".join(lines)


def test_the_own_loop_needs_the_cache_in_two_marked_lines_alone():
    loop = (EXAMPLES / "02_your_own_sds_loop.py").read_text().split("def main")[1]
    lines = [line.strip() for line in loop.splitlines() if re.search("cache|hash3d", line)]
    marked = [line for line in lines if re.search("# <-- The (first|second) line.$", line)]
    assert len(marked) == 2
    assert [line[:6] for line in lines if line not in marked] == ["print("]


def test_the_readme_s_two_lines_reuse_and_leave_the_unet_as_it_was():
    from hash3d import remove_hash3d
    from tests.tiny_models import tiny_unet

    block = re.search(r"^```python\n(.*?)^```$", (EXAMPLES.parent / "README.md").read_text(), re.S | re.M).group(1)
    attach, call = block.split("with ")
    unet = tiny_unet()
    size, width = unet.config.sample_size, unet.config.cross_attention_dim
    text, empty = torch.randn(2, 3, width), torch.randn(2, 3, width)
    latents = torch.randn(2, unet.config.in_channels, size, size)
    names = {"unet": unet, "torch": torch, "latents": latents, "t": 500, "text": text, "empty": empty, "prompt": "mug"}
    names |= {"e": [10.0, 30.0], "a": [0.0, 90.0], "r": 1.5}
    exec(attach, names)
    for _ in range(2):
        exec("with " + call, names)
    assert names["cache"].statistics.shallow == 2
    assert names["noise_pred"].shape == (4, 4, size, size)
    remove_hash3d(unet)
    with torch.no_grad():
        plain = unet(torch.cat([latents] * 2), 500, encoder_hidden_states=torch.cat([text, empty])).sample
    assert torch.allclose(names["noise_pred"], plain, atol=1e-5)


def test_a_pipeline_s_folder(tmp_path, monkeypatch, capsys):
    """A whole StableDiffusionPipeline, small and random, with a vocabulary of letters."""
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel

    from tests.tiny_models import tiny_unet

    text = CLIPTextConfig(
        vocab_size=100,
        hidden_size=12,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=0,
        eos_token_id=1,
    )
    StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(8,), norm_num_groups=4),
        text_encoder=CLIPTextModel(text),
        tokenizer=letters_tokenizer(tmp_path),
        unet=tiny_unet(),
        scheduler=DDIMScheduler(steps_offset=1, clip_sample=False),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(tmp_path / "pipeline")
    arguments = ["--model", str(tmp_path / "pipeline"), "--views", "6"]
    assert "% of the calls reused" in run("01_stable_diffusion_unet.py", arguments, monkeypatch, capsys, tmp_path)


def letters_tokenizer(folder):
    import json

    from transformers import CLIPTokenizer

    letters = [letter + ending for ending in ("", "</w>") for letter in "abcdefghijklmnopqrstuvwxyz"]
    vocabulary = {"<|startoftext|>": 0, "<|endoftext|>": 1} | {token: n + 2 for n, token in enumerate(letters)}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=77)


def test_the_notebook_runs_from_top_to_bottom(monkeypatch, tmp_path, capsys):
    """In two steps, each cell in the names of those before it."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    monkeypatch.chdir(tmp_path)
    cells, names = json.loads((EXAMPLES / "picture_to_3d.ipynb").read_text())["cells"], {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert not cell["outputs"]
            exec("".join(cell["source"]).replace("STEPS = 300", "STEPS = 2"), names)
    assert "2 steps" in capsys.readouterr().out
    assert (tmp_path / "outputs/notebook/splats.splat").stat().st_size % 32 == 0
    assert len(names["views"]) == 4
