"""All parts of a mesh file, each with its own colours, in our axes."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from hash3d.representations.mesh_file import read_mesh
from hash3d.representations.point_start import sample_mesh

CENTRE = torch.tensor([[1 / 3, 1 / 3, 1 / 3]])


def triangle(x):
    """One triangle at x, which faces the front."""
    return trimesh.Trimesh([[x, 0, 0], [x + 1, 0, 0], [x, 1, 0]], [[0, 1, 2]], process=False)


@pytest.fixture
def scene_file(tmp_path):
    """Parts with a texture, with colours at vertices, with a plain material and with none, the last one moved."""
    textured, painted, plain, bare = (triangle(2.0 * place) for place in range(4))
    image = Image.fromarray(np.full((4, 4, 3), (10, 200, 30), dtype=np.uint8))
    textured.visual = TextureVisuals(uv=[[0, 0], [1, 0], [0, 1]], material=PBRMaterial(baseColorTexture=image))
    painted.visual.vertex_colors = np.array([[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255]], dtype=np.uint8)
    plain.visual = TextureVisuals(material=PBRMaterial(baseColorFactor=[0.0, 0.5, 1.0, 1.0]))
    scene = trimesh.Scene([textured, painted, plain])
    scene.add_geometry(bare, transform=trimesh.transformations.translation_matrix([0, 0, 5]))
    scene.export(tmp_path / "scene.glb")
    return tmp_path / "scene.glb"


def test_each_part_has_its_own_colours(scene_file):
    mesh = read_mesh(scene_file)
    middles = mesh.vertices[mesh.faces].mean(dim=1)
    colors = mesh.colors(torch.arange(4), CENTRE.expand(4, 3))
    found = {round(float(middle[0] - 1 / 3) / 2): color for middle, color in zip(middles, colors, strict=True)}
    torch.testing.assert_close(found[0], torch.tensor([10.0, 200.0, 30.0]) / 255)
    # A third of linear 1 is 0.61 in sRGB, and linear 0.5 is 0.735.
    torch.testing.assert_close(found[1], torch.full((3,), 0.6125), atol=5e-3, rtol=0)
    torch.testing.assert_close(found[2], torch.tensor([0.0, 0.735, 1.0]), atol=5e-3, rtol=0)
    assert len(set(map(tuple, colors.tolist()))) == 4


def test_parts_are_where_the_scene_puts_them(scene_file):
    mesh = read_mesh(scene_file)
    assert sorted(mesh.vertices[:, 2].unique().tolist()) == [0.0, 5.0]
    torch.testing.assert_close(mesh.normals, torch.tensor([[0.0, 0.0, 1.0]]).double().expand(12, 3))
    turned = read_mesh(scene_file, "z")
    torch.testing.assert_close(turned.vertices[:, 1], mesh.vertices[:, 2])
    torch.testing.assert_close(turned.normals, torch.tensor([[0.0, 1.0, 0.0]]).double().expand(12, 3))


def test_vertex_colours_multiply_texture_and_factor(tmp_path):
    """In linear numbers, as glTF says: 0.5 of white is 0.735 in sRGB, and 0.25 is 0.537."""
    image = Image.fromarray(np.full((4, 4, 3), 255, dtype=np.uint8))
    for material, expected in (({"baseColorTexture": image}, 0.735), ({"baseColorFactor": [0.5] * 3 + [1.0]}, 0.537)):
        part = triangle(0.0)
        part.visual = TextureVisuals(uv=[[0, 0], [1, 0], [0, 1]], material=PBRMaterial(**material))
        part.visual.vertex_attributes["color"] = np.full((3, 4), 128, dtype=np.uint8)
        part.export(tmp_path / "tinted.glb")
        color = read_mesh(tmp_path / "tinted.glb").colors(torch.tensor([0]), CENTRE)
        torch.testing.assert_close(color, torch.full((1, 3), expected), atol=5e-3, rtol=0)


@pytest.mark.parametrize(("kind", "largest"), [("uchar", 255), ("ushort", 65535), ("float", 1)])
@pytest.mark.parametrize("prefix", ["", "diffuse_"])
def test_vertex_colours_of_a_ply_mesh_are_of_any_number_type(prefix, kind, largest, tmp_path):
    numbers = dict.fromkeys("xyz", "float") | {f"{prefix}{name}": kind for name in ("red", "green", "blue")}
    head = "".join(f"property {each} {name}\n" for name, each in numbers.items())
    rows = "".join(f"{x} {y} 0 {largest} 0 {0.2 * largest:g}\n" for x, y in ((0, 0), (1, 0), (0, 1)))
    faces = "element face 1\nproperty list uchar int vertex_indices\nend_header\n"
    (tmp_path / "mesh.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 3\n{head}{faces}{rows}3 0 1 2\n")
    color = read_mesh(tmp_path / "mesh.ply").colors(torch.tensor([0]), CENTRE)
    torch.testing.assert_close(color, torch.tensor([[1.0, 0.0, 0.2]]), atol=2e-3, rtol=0)


OBJ = "mtllib given.mtl\nv 0 0 0\nv 1 0 0\nv 0 1 0\nvt 0 0\nvt 1 0\nvt 0 1\nusemtl red paint\nf 1/1 2/2 3/3\n"


@pytest.mark.parametrize(("mtl", "told"), [
    ("newmtl red paint\nKd 1 0 0\n", None), ("newmtl other\nKd 1 0 0\n", "red paint"), (None, "red paint"),
    ("newmtl red paint\nKd 1 0 0\nmap_Kd gone.png\n", "red paint"),
    ("newmtl red paint\nKd 1 0 0\nnewmtl other\nmap_Kd gone.png\n", None),
])  # fmt: skip
def test_materials_and_textures_that_are_lost_are_told(mtl, told, tmp_path, recwarn):
    (tmp_path / "mesh.obj").write_text(OBJ)
    if mtl is not None:
        (tmp_path / "given.mtl").write_text(mtl)
    read_mesh(tmp_path / "mesh.obj")
    messages = [str(each.message) for each in recwarn if "were not found" in str(each.message)]
    assert len(messages) == (told is not None)
    assert told is None or f"not found: {told}." in messages[0]


@pytest.mark.parametrize(("old", "new", "match"), [
    ("v 0 0 0", "v 0 0 0 255 0 0", "vertex colours of .* in 0 to 1"), ("2/2 3/3", "2/2 \\\n3/3", "each in one line"),
    ("mtllib given.mtl\n", "\ufeffv 9 9 9\n", "byte order mark"),
])  # fmt: skip
def test_what_would_be_read_wrongly_is_refused(old, new, match, tmp_path):
    (tmp_path / "mesh.obj").write_text(OBJ.replace(old, new), encoding="utf-8")
    with pytest.raises(ValueError, match=match):
        read_mesh(tmp_path / "mesh.obj")


@pytest.mark.parametrize(("color", "seen"), [("0.8 0.8 0.8", (1.0, 0.6, 0.2)), ("1 0.5 0", (1.0, 0.3, 0.0))])
def test_a_tint_of_an_obj_multiplies_its_texture(color, seen, tmp_path):
    """As MTL says; a grey one does not: Blender writes 0.8 beside each texture, and leaves it out when it reads."""
    (tmp_path / "mesh.obj").write_text(OBJ)
    (tmp_path / "given.mtl").write_text(f"newmtl red paint\nKd {color}\nmap_Kd white.png\n")
    Image.new("RGB", (4, 4), (255, 153, 51)).save(tmp_path / "white.png")
    colors = read_mesh(tmp_path / "mesh.obj").colors(torch.tensor([0]), torch.full((1, 3), 1 / 3))
    np.testing.assert_allclose(colors[0], seen, atol=1 / 255)


def test_what_is_no_mesh_is_told(tmp_path):
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "cloud.ply")
    with pytest.raises(ValueError, match="to hold a mesh, but it has no faces"):
        read_mesh(tmp_path / "cloud.ply")
    with pytest.raises(ValueError, match="there is no file"):
        read_mesh(tmp_path / "none.glb")


@pytest.mark.parametrize("meshes", [1, 2])
def test_a_textures_factor_is_linear(meshes, tmp_path):
    """Half of white, linear, is 0.735 in sRGB; alone and beside another mesh."""
    white = Image.new("RGB", (4, 4), "white")
    squares = []
    for place in range(meshes):
        square = trimesh.Trimesh([[0, place, 0], [1, place, 0], [1, place, 1]], [[0, 1, 2]], process=False)
        factor = [255, 255, 255, 255] if place else [128, 128, 128, 255]
        material = PBRMaterial(baseColorTexture=white, baseColorFactor=factor)
        square.visual = TextureVisuals(uv=[[0, 0], [1, 0], [1, 1]], material=material)
        squares.append(square)
    trimesh.Scene(squares).export(tmp_path / "factor.glb")
    start = sample_mesh(tmp_path / "factor.glb", 100, torch.Generator().manual_seed(0))
    expected = torch.where(start.points[:, 1:2] > 0.5, 1.0, 0.735).expand(-1, 3).float()
    torch.testing.assert_close(start.colors, expected, atol=0.01, rtol=0.0)


def test_vertices_that_are_counted_back_are_refused(tmp_path):
    """Which trimesh counts from the end of the file, not from the face."""
    (tmp_path / "back.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf -3 -2 -1\nv 0 5 0\nv 1 5 0\nv 1 6 0\nf -3 -2 -1\n")
    with pytest.raises(ValueError, match="count vertices from the first"):
        sample_mesh(tmp_path / "back.obj", 10, torch.Generator().manual_seed(0))
