"""Meshes of packages as OBJ files, upright."""

import numpy as np
import trimesh

from research.unseen_meshes import make_part, write_textured


def test_parts_are_upright_and_keep_their_colours(tmp_path):
    """MuJoCo's z is up and -y the front."""
    tall = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 5.0]])
    deep = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, -3.0, 0.0]])
    face = np.array([[0, 1, 2]])
    parts = [make_part(tall, face, np.array([1.0, 0.0, 0.0])), make_part(deep, face, np.array([0.0, 0.0, 1.0]))]
    trimesh.util.concatenate(parts).export(tmp_path / "two.obj")
    mesh = trimesh.load(tmp_path / "two.obj", process=False)
    np.testing.assert_allclose(mesh.bounds, [[0, 0, 0], [1, 5, 3]])
    assert mesh.faces.tolist() == [[0, 1, 2], [3, 4, 5]]
    np.testing.assert_array_equal(mesh.visual.vertex_colors[[2, 5], :3], [[255, 0, 0], [0, 0, 255]])


def test_a_textured_mesh_is_turned_and_stretched(tmp_path):
    source = tmp_path / "source.obj"
    lines = ["v 0 0 0", "v 2 0 0", "v 0 -1 4", "vt 0 0", "vt 1 0", "vt 0 1", "vn 0 0 1", "f 1/1/1 2/2/1 3/3/1"]
    source.write_text("\n".join(lines) + "\n")
    (tmp_path / "skin.png").write_bytes(b"png")
    out = tmp_path / "out"
    out.mkdir()
    write_textured(out / "thing.obj", source, tmp_path / "skin.png", 1.5)
    text = (out / "thing.obj").read_text()
    assert "v 3.000000 0.000000 0.000000" in text
    assert "v 0.000000 4.000000 1.000000" in text
    assert "f 1/1 2/2 3/3" in text
    assert (out / "skin.png").read_bytes() == b"png"
    assert "map_Kd skin.png" in (out / "thing.mtl").read_text()
