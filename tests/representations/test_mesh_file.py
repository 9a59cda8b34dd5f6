"""All parts of a mesh file, each with its own colours, in our axes."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from hash3d.representations.mesh_file import read_mesh

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


def test_what_is_no_mesh_is_told(tmp_path):
    trimesh.PointCloud(np.eye(3)).export(tmp_path / "cloud.ply")
    with pytest.raises(ValueError, match="to hold a mesh, but it has no faces"):
        read_mesh(tmp_path / "cloud.ply")
    with pytest.raises(ValueError, match="there is no file"):
        read_mesh(tmp_path / "none.glb")
