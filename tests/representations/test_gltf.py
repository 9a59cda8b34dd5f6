"""What would be read wrongly of a glTF file is refused or told."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from hash3d.representations.mesh_file import read_mesh


def triangle():
    """One triangle, which faces the front."""
    return trimesh.Trimesh([[0, 0, 0], [1, 0, 0], [0, 1, 0]], [[0, 1, 2]], process=False)


def test_extensions_that_are_not_read_are_refused_or_told(tmp_path):
    triangle().export(tmp_path / "plain.gltf")
    content = (tmp_path / "plain.gltf").read_text()
    for name, expected in (
        ("KHR_draco_mesh_compression", pytest.raises(ValueError, match="without KHR_draco_mesh_compression")),
        ("EXT_mesh_gpu_instancing", pytest.raises(ValueError, match="without EXT_mesh_gpu_instancing, which is not")),
        ("KHR_texture_transform", pytest.warns(UserWarning, match="uses KHR_texture_transform, which is not heeded")),
        ("emissiveTexture", pytest.warns(UserWarning, match="uses emissiveTexture, which is not heeded")),
    ):
        (tmp_path / "plain.gltf").write_text(content.replace("{", f'{{"extensionsUsed":["{name}"],', 1))
        with expected:
            read_mesh(tmp_path / "plain.gltf")


def write_gltf(path, change):
    """Write a textured triangle, whose JSON `change` edits."""
    part, image = triangle(), Image.fromarray(np.full((4, 4, 3), (10, 200, 30), dtype=np.uint8))
    part.visual = TextureVisuals(uv=[[0, 0], [2, 0], [0, 2]], material=PBRMaterial(baseColorTexture=image))

    def edit(tree):
        tree["samplers"] = [{"wrapS": 10497}]
        change(tree)

    path.write_bytes(trimesh.exchange.gltf.export_glb(trimesh.Scene([part]), tree_postprocessor=edit))
    return path


@pytest.mark.parametrize(("change", "match"), [
    (lambda tree: tree.update(extensionsRequired=["EXT_shape"]), "EXT_shape"),
    (lambda tree: tree["accessors"][0].update(sparse={"count": 0}), "sparse"),
    (lambda tree: [each.update(normalized=True) for each in tree["accessors"]], "normalized integers"),
    (lambda tree: tree["meshes"][0].update(weights=[0.0, 1.0]), "weights of morph targets"),
])  # fmt: skip
def test_a_gltf_whose_shape_would_be_another_is_refused(change, match, tmp_path):
    with pytest.raises(ValueError, match=f"{match}.*, which is not read"):
        read_mesh(write_gltf(tmp_path / "mesh.glb", change))


@pytest.mark.parametrize(("change", "told"), [
    (lambda tree: tree["materials"][0].update(emissiveFactor=[0, 0, 0]), None),
    (lambda tree: tree["materials"][0].update(emissiveFactor=[1, 0, 0]), "emissiveFactor"),
    (lambda tree: tree["materials"][0].update(alphaMode="OPAQUE"), None),
    (lambda tree: tree["materials"][0].update(alphaMode="MASK"), "alphaMode MASK"),
    (lambda tree: tree["materials"][0]["pbrMetallicRoughness"]["baseColorTexture"].update(texCoord=1), "second set"),
    (lambda tree: tree["samplers"][0].update(wrapT=33071), "textures that do not repeat"),
])  # fmt: skip
def test_what_colours_a_gltf_otherwise_is_told(change, told, tmp_path, recwarn):
    read_mesh(write_gltf(tmp_path / "mesh.glb", change))
    messages = [str(each.message) for each in recwarn if "not heeded" in str(each.message)]
    assert len(messages) == (told is not None)
    assert told is None or told in messages[0]


@pytest.mark.parametrize("with_material", [True, False])
def test_vertex_colours_of_16_bits_are_read_beside_a_material_else_refused(with_material, tmp_path):
    """As Blender writes them: glTF's colours are linear, ours are sRGB."""
    part = triangle()
    part.visual = TextureVisuals(material=PBRMaterial(baseColorFactor=[255, 255, 255, 255]))
    part.vertex_attributes["_color"] = np.full((3, 4), (13978, 2000, 60000, 65535), dtype=np.uint16)

    def edit(tree):
        (primitive,) = tree["meshes"][0]["primitives"]
        primitive["attributes"]["COLOR_0"] = number = primitive["attributes"].pop("_color")
        assert tree["accessors"][number]["componentType"] == 5123
        tree["accessors"][number]["normalized"] = True
        if not with_material:
            del primitive["material"]

    path = tmp_path / "mesh.glb"
    path.write_bytes(trimesh.exchange.gltf.export_glb(trimesh.Scene([part]), tree_postprocessor=edit))
    if with_material:
        colors = read_mesh(path).colors(torch.tensor([0]), torch.full((1, 3), 1 / 3))
        linear = np.array([13978, 2000, 60000]) / 65535
        np.testing.assert_allclose(colors[0], 1.055 * linear ** (1 / 2.4) - 0.055, atol=4 / 255)
    else:
        with pytest.raises(ValueError, match="vertex colours of 16 bits and no material, which is not read"):
            read_mesh(path)
