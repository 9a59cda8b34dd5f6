import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.representations.mesh_file import read_mesh
from prior_training import mesh_views
from prior_training.mesh_views import Variant

CATALOGUE = """id=Test
name#1=Box
category#1=Kitchen
model#1=/test/box/box.obj
name#2=Door
category#2=Doors and windows
model#2=/test/door/door.obj
name#10=Cone
category#10=Kitchen
model#10=/test/cone/cone.obj
"""
BOX = """mtllib box.mtl
v 0 0 0
v 1 0 0
v 0 2 0
v 0 0 3
usemtl red
f 1 2 3
f 1 2 4
f 1 3 4
f 2 3 4
"""
RED = "newmtl red\nKd 0.8 0.2 0.1\n"


@pytest.fixture
def library(tmp_path):
    path = tmp_path / "Some-lib.sh3f"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("PluginFurnitureCatalog.properties", CATALOGUE)
        for name in ("box", "door", "cone"):
            archive.writestr(f"test/{name}/{name}.obj", BOX)
            archive.writestr(f"test/{name}/box.mtl", RED)
    return path


@pytest.fixture
def box(tmp_path):
    (tmp_path / "box.obj").write_text(BOX)
    (tmp_path / "box.mtl").write_text(RED)
    return read_mesh(tmp_path / "box.obj")


def test_doors_are_no_objects(library):
    assert [piece.name for piece in mesh_views.read_catalogue(library)] == ["Some-lib-001", "Some-lib-010"]


def test_a_textures_holes_are_seen():
    image = Image.new("RGBA", (8, 8), (255, 0, 0, 255))
    assert not mesh_views.has_holes(image)
    image.paste((0, 0, 0, 0), (0, 0, 4, 4))
    assert mesh_views.has_holes(image)


def test_a_rotation_turns_the_next_axis_to_the_one_after_it():
    for axis in range(3):
        about = tuple(torch.eye(3, dtype=torch.int64)[axis].tolist())
        turned = mesh_views.rotation(about, 90.0) @ torch.eye(3, dtype=torch.float64)[(axis + 1) % 3]
        torch.testing.assert_close(turned, torch.eye(3, dtype=torch.float64)[(axis + 2) % 3])


def test_hues_turn_about_grey():
    turn = mesh_views.rotation((1, 1, 1), 120.0).float()
    torch.testing.assert_close(turn @ torch.ones(3), torch.ones(3))
    torch.testing.assert_close(turn @ torch.eye(3)[0], torch.eye(3)[1])


def test_normals_stay_normal_to_a_stretched_mesh(box):
    """n . (M t) with n = M^-T n0 is 0 where n0 . t is: for the box's own faces."""
    variant = Variant(stretch=(-0.5, 2.0, 1.0), lean=(30.0, -50.0))
    corners = box.vertices[box.faces]
    sides = corners[:, 1:] - corners[:, :1]
    normals = torch.linalg.cross(sides[:, 0], sides[:, 1])
    flat = replace(box, normals=normals)
    shaped = variant.shape(flat)
    corners = shaped.vertices[box.faces]
    across = (corners[:, 1:] - corners[:, :1]) @ shaped.normals[:, :, None]
    torch.testing.assert_close(across, torch.zeros_like(across), atol=1e-12, rtol=0)


def test_drawn_variants_are_inside_their_ranges():
    random = np.random.default_rng(0)
    drawn = [Variant.draw(random) for _ in range(200)]
    assert {np.sign(each.stretch[0]) for each in drawn} == {-1.0, 1.0}
    assert all(each.lamp[1] >= 0 and 0.7 <= each.size <= 1.0 and 0.35 <= each.ambient <= 1.0 for each in drawn)
    assert max(abs(np.log(np.abs(each.stretch))).max() for each in drawn) <= 0.3
    assert sum(each.lean != (0.0, 0.0) for each in drawn) == pytest.approx(40, abs=20)


def test_a_lamp_lights_what_faces_it(box):
    """From above the box is as bright as its albedo if a lamp is there, and its ambient share if it is below."""
    elevation, azimuth = torch.tensor([90.0]), torch.tensor([0.0])
    colors = []
    for height in (1.0, -1.0):
        variant = Variant(ambient=0.25, lamp=(0.0, height, 0.0), lamp_share=1.0)
        flat = replace(box, normals=torch.tensor([[0.0, 1.0, 0.0]]).double().expand(4, 3))
        row = mesh_views.render_row(flat, variant, elevation, azimuth, 16)
        colors.append(row.flatten(0, 1).amin(0))
    torch.testing.assert_close(colors[0], torch.tensor([0.8, 0.2, 0.1]), atol=0.01, rtol=0)
    torch.testing.assert_close(colors[1], 0.25 * colors[0], atol=0.01, rtol=0)


def test_rows_are_written_and_read(library, tmp_path):
    out = tmp_path / "views"
    mesh_views.main(f"--libraries {tmp_path} --out {out} --variants 2 --size 16 --workers 1".split())
    pixels, elevation, azimuth = mesh_views.read_views(out)
    assert pixels.shape == (2, 8, 16, 16, 4)
    assert elevation.shape == azimuth.shape == (2, 8)
    assert (pixels[:, :, 8, 8, 0] > pixels[:, :, 8, 8, 2]).float().mean() > 0.4, "the first variant is red"
    held_out, *_ = mesh_views.read_views(out, held_out=True)
    assert len(held_out) == 2
    assert (pixels[:, :, 0, 0] == torch.tensor([255, 255, 255, 0])).all(), "on white"
    assert (pixels[:, :, 8, 8, 3] == 255).float().mean() > 0.4, "covered"
