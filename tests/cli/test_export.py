"""`hash3d export`: every file of a run, opened again, is what the run has made."""

from pathlib import Path
from typing import get_args

import av
import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hash3d.cli import main
from hash3d.cli.export import Format
from hash3d.export import FORMATS
from hash3d.export.points import read_ply
from hash3d.export.turntable import to_bytes
from hash3d.scenes import base
from hash3d.scenes.build import build_model, save_model
from hash3d.scenes.show import colors
from hash3d.training import outputs
from hash3d.training.run_folder import RunFolder


@pytest.fixture
def exported(tiny, tmp_path, capsys, monkeypatch):
    """The Gaussians of a small recipe in every format: the recipe, the model, what draws it, the files."""
    bake = base.bake_asset
    monkeypatch.setattr(base, "bake_asset", lambda *given, **options: bake(*given, 64, **options))
    recipe = tiny("sds_gs")
    RunFolder(tmp_path).create(recipe)
    save_model(tmp_path, build_model(recipe, 0, None, torch.Generator().manual_seed(0)), recipe.stage)
    files = {}
    assert get_args(Format) == tuple(FORMATS)
    for format in FORMATS:
        with pytest.raises(SystemExit) as exit_:
            main(["export", str(tmp_path), "--format", format])
        assert exit_.value.code == 0
        files[format] = Path(capsys.readouterr().out.strip())
        assert files[format] == tmp_path / FORMATS[format]
    model, show = outputs.load_asset(tmp_path, torch.device("cpu"))
    return recipe, model, show, files


def test_splats_have_the_model_s_numbers(exported):
    _, model, _, files = exported
    found = read_ply(files["ply"])
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_a_standing_mesh_and_options_of_another_format(exported, tmp_path, capsys):
    for format, code in (("glb", 0), ("splat", 2)):
        out = tmp_path / f"standing.{format}"
        with pytest.raises(SystemExit) as exit_:
            main(["export", str(tmp_path), "--format", format, "--out", str(out), "--origin", "floor", "--size", "0.5"])
        assert (exit_.value.code, out.exists()) == (code, not code)
    low, high = trimesh.load_mesh(tmp_path / "standing.glb").bounds
    assert (low[1], (high - low).max()) == (pytest.approx(0.0, abs=1e-6), pytest.approx(0.5))
    assert "Expected no --origin, --size or --max-faces with --format splat" in capsys.readouterr().err


def test_an_export_never_takes_the_place_of_a_runs_own_file(exported, tmp_path, capsys):
    before = {name: (tmp_path / name).read_bytes() for name in ("model.glb", "model.ply", "recipe.json")}
    placed = ["glb", "--size", "0.5"]
    for words, own in ((placed, "model.glb"), (["ply"], "model.ply"), (["sheet"], "recipe.json"), (placed, None)):
        with pytest.raises(SystemExit) as exit_:
            main(["export", str(tmp_path), "--format", *words, *(["--out", str(tmp_path / own)] if own else [])])
        assert exit_.value.code == (2 if own else 0)
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    assert Path(capsys.readouterr().out.strip()) == tmp_path / "model-placed.glb"


def test_the_sheet_and_the_video_show_the_model_s_pictures(exported):
    recipe, _, show, files = exported
    render = colors(show)
    assert np.array_equal(np.asarray(Image.open(files["sheet"])), to_bytes(outputs.contact_sheet(render, recipe)))
    with av.open(str(files["mp4"])) as video:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)])
    expected = to_bytes(torch.stack(outputs.turntable(render, recipe)))
    assert frames.shape == expected.shape
    # H.264 with colours at half the resolution, on splats of single pixels.
    assert np.abs(frames.astype(int) - expected).mean() < 5


def test_both_meshes_are_that_of_the_model(exported):
    recipe, model, show, files = exported
    baked = outputs.bake_model(model, recipe, show)
    for format in ("glb", "obj"):
        found = trimesh.load_mesh(files[format], process=False)
        np.testing.assert_allclose(found.vertices, baked.vertices, atol=1e-6)
        np.testing.assert_array_equal(found.faces, baked.faces)
        np.testing.assert_allclose(found.visual.uv, baked.uv, atol=1e-6)
        material = found.visual.material
        picture = material.baseColorTexture if format == "glb" else material.image
        assert np.array_equal(np.asarray(picture), to_bytes(baked.texture))
