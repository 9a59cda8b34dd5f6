"""`hash3d render-views`."""

from pathlib import Path

import trimesh
from PIL import Image

from hash3d.cli.render_views import name_meshes
from hash3d.evaluation.truth import load_truth

from .conftest import assert_refused


def test_each_mesh_gets_a_folder_that_evaluate_reads(hash3d, tmp_path):
    trimesh.creation.box().export(tmp_path / "box.obj")
    trimesh.creation.icosphere(subdivisions=1).export(tmp_path / "ball.glb")
    meshes = [tmp_path / "box.obj", tmp_path / "ball.glb"]
    code, out, err = hash3d(
        "render-views", *meshes, "--out", tmp_path / "views", "--size", 16, "--protocol", "zero123-gso"
    )
    assert code == 0, err
    assert out.split() == [str(tmp_path / "views" / name) for name in ("box", "ball")]
    truth = load_truth(tmp_path / "views" / "ball")
    assert (len(truth.cameras), truth.reference_elevation) == (16, 30.0)
    first, given = (Image.open(tmp_path / "views" / "box" / name) for name in ("000.png", "input.png"))
    assert (given.mode, given.size, given.tobytes()) == ("RGBA", (16, 16), first.tobytes())


def test_meshes_of_one_name_are_named_by_their_folders():
    assert name_meshes([Path("a/x.glb"), Path("b/y.glb")]) == ["x", "y"]
    assert name_meshes([Path("gso/mug/model.obj"), Path("gso/shoe/model.obj")]) == ["mug_model", "shoe_model"]


def test_mistakes_are_told(hash3d, tmp_path):
    assert_refused(hash3d("render-views", tmp_path / "none.glb", "--out", tmp_path), "there is no file")
    assert_refused(
        hash3d("render-views", tmp_path / "x.glb", "--out", tmp_path, "--size", 0), "Expected --size from 16 to 8,192"
    )
