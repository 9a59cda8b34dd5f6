"""The examples of the pages are run: Python from a page's top in one namespace, commands through the parser."""

import re
import shlex
from types import SimpleNamespace

import pytest
import torch
import tyro

from hash3d.cli import COMMANDS, main
from tests.test_docs import CURRENT, ROOT, commands, name_of
from tests.tiny_ldm import ldm_inputs, tiny_ldm
from tests.tiny_models import tiny_unet

WORDS = {"SYSTEM": "zero123_gs", "figurine": "sds_gs"}
"""What stands for a name that the reader chooses."""


class ParsedError(Exception):
    """The options are parsed; nothing runs."""


def blocks(page):
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.S | re.M)


def run(page, blocks, names):
    assert blocks
    for block in blocks:
        exec(compile(block, page, "exec"), names)
    return names


def test_the_examples_of_the_conventions_run():
    run("docs/conventions.md", blocks("docs/conventions.md"), {})


def test_the_examples_of_your_own_loop_run(capsys):
    """The model in LDM's layout is a tiny one."""
    unet = tiny_ldm()
    inputs = ldm_inputs(unet)
    wrapped = SimpleNamespace(diffusion_model=unet)
    model = SimpleNamespace(model=wrapped, apply_model=lambda x, t, cond: wrapped.diffusion_model(x, t, cond))
    names = {"model": model, "e": 10.0, "a": 30.0, "r": 1.5, "t": 400, "image_name": "mug.png"}
    names |= {"x_in": inputs["x"], "t_in": inputs["timesteps"], "cond": inputs["context"]}
    run("docs/in_your_own_loop.md", blocks("docs/in_your_own_loop.md"), names)
    assert names["cache"].statistics.full == 1


@pytest.mark.parametrize("page", ["README.md", "docs/how_it_works.md"])
def test_the_two_lines_run_in_a_loop_that_has_the_rest(page):
    names = {"torch": torch, "unet": tiny_unet(), "t": 500, "e": 10.0, "a": 30.0, "r": 1.5, "prompt": "a red mug"}
    names |= {name: torch.zeros(1, 4, 12) for name in ("text", "empty", "embeddings")}
    names["latents"] = torch.zeros(1, 4, 8, 8)
    lines = [block for block in blocks(page) if "apply_hash3d(" in block]
    statistics = run(page, lines, names)["cache"].statistics
    assert (statistics.full, statistics.bypassed) == (1, {})


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_the_parser_accepts_every_command(page, monkeypatch, capsys):
    parse = tyro.cli

    def stop(*arguments, **settings):
        parse(*arguments, **settings)
        raise ParsedError

    monkeypatch.setattr(tyro, "cli", stop)
    for command in commands(page.read_text()):
        called = re.search(r"(?:^|[ /])hash3d (\w.*)", command.split(" > ")[0])
        words = [WORDS.get(word, word) for word in shlex.split(called.group(1))] if called else []
        assert set(words[:1]) <= COMMANDS.keys()
        if len(words) > 1:
            with pytest.raises(ParsedError):
                main(words)
