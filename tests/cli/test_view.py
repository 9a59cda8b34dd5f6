"""`hash3d view`: the page of a run's folder, made anew and opened."""

import base64
import json
import re
import webbrowser

import pytest
import torch

from hash3d.cli import main
from hash3d.export.splats import encode_splat
from hash3d.scenes.build import build_model, save_model
from hash3d.training.run_folder import RunFolder


def view(*given: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(["view", *given])
    return exit_.value.code


def test_a_run_s_page_holds_its_splats_and_is_opened(tiny, tmp_path, capsys, monkeypatch):
    recipe, opened = tiny("sds_gs"), []
    RunFolder(tmp_path).create(recipe)
    model = build_model(recipe, 0, None, torch.Generator().manual_seed(0))
    save_model(tmp_path, model, recipe.stage)
    monkeypatch.setattr(webbrowser, "open", opened.append)
    assert view(str(tmp_path)) == view(str(tmp_path), "--no-browser") == 0
    assert opened == [(tmp_path / "view.html").as_uri()]
    assert capsys.readouterr().out.split() == [str(tmp_path / "view.html")] * 2
    run = json.loads(re.search(r"const run = (.*);\n", (tmp_path / "view.html").read_text())[1])
    assert base64.b64decode(run["data"]) == encode_splat(model)
    assert (run["kind"], run["title"], run["radius"]) == ("splat", recipe.prompt, recipe.stage.cameras.radius)
    assert ["system", "sds_gs"] in run["figures"]


def test_a_run_without_its_model_is_told(tiny, tmp_path, capsys):
    RunFolder(tmp_path).create(tiny("sds_gs"))
    assert view(str(tmp_path)) == 2
    assert "has no model.ply" in capsys.readouterr().err
