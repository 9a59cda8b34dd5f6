"""Files of meshes, opened again by trimesh: geometry, texture, colours and axes."""

import dataclasses
import json
import math

import numpy as np
import pytest
import torch
import trimesh

from hash3d.cameras import Cameras
from hash3d.export.mesh import BakedMesh, place_mesh, write_glb, write_obj
from hash3d.meshing.isosurface import GaussianField, IsosurfaceConfig, extract_mesh
from hash3d.rendering.splat import render_gaussians
from hash3d.representations.gaussians import GaussianTensors
from hash3d.representations.mesh import Mesh
from hash3d.representations.point_start import sample_mesh
from tests.shapes import bake_texture

WRITERS = {"model.glb": write_glb, "model.obj": write_obj}


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """A ball of radius 0.5 at (0.1, 0.2, 0.3), with dark and bright colours at its vertices."""
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=0.5)
    vertices = torch.tensor(sphere.vertices, dtype=torch.float32)
    center = torch.tensor([0.1, 0.2, 0.3])
    return Mesh(vertices=vertices + center, faces=torch.tensor(sphere.faces), colors=vertices + 0.5)


@pytest.fixture(scope="module")
def textured(ball) -> BakedMesh:
    return bake_texture(ball, lambda points: points, size=128)


def blobs() -> GaussianTensors:
    """Red on the right (+x), green on top (+y), blue in front (+z)."""
    return GaussianTensors(
        means=0.3 * torch.eye(3),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(3, 1),
        scales=torch.full((3, 3), 0.08),
        opacities=torch.full((3,), 0.99),
        colors=torch.eye(3),
    )


def opened(path) -> trimesh.Trimesh:
    return trimesh.load_mesh(path, process=False)


def glb_json(path) -> dict:
    content = path.read_bytes()
    return json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])


def normals_of(path) -> np.ndarray:
    """The normals that a file holds, which trimesh computes anew where it reads one."""
    if path.suffix == ".obj":
        return np.array([line.split()[1:] for line in path.read_text().splitlines() if line.startswith("vn")], float)
    described, content = glb_json(path), path.read_bytes()
    place = described["accessors"][described["meshes"][0]["primitives"][0]["attributes"]["NORMAL"]]["bufferView"]
    view = described["bufferViews"][place]
    start = 20 + int.from_bytes(content[12:16], "little") + 8 + view.get("byteOffset", 0)
    return np.frombuffer(content[start : start + view["byteLength"]], "<f4").reshape(-1, 3)


@pytest.mark.parametrize("name", WRITERS)
def test_geometry_and_normals_come_back(name, textured, tmp_path):
    path = WRITERS[name](tmp_path / "new" / name, textured)
    found = opened(path)
    np.testing.assert_allclose(found.vertices, textured.vertices, atol=1e-6)
    np.testing.assert_array_equal(found.faces, textured.faces)
    directions = (textured.vertices - torch.tensor([0.1, 0.2, 0.3])) / 0.5
    np.testing.assert_allclose(normals_of(path), directions, atol=0.02)  # Of a sphere of 1,280 faces; cut open or not.
    assert found.volume == pytest.approx(4 / 3 * math.pi * 0.5**3, rel=0.02)


@pytest.mark.parametrize("name", WRITERS)
def test_texture_and_coordinates_come_back(name, textured, tmp_path):
    found = opened(WRITERS[name](tmp_path / name, textured))
    np.testing.assert_allclose(found.visual.uv, textured.uv, atol=1e-6)
    material = found.visual.material
    picture = material.baseColorTexture if name.endswith("glb") else material.image
    # A PNG keeps every texel; 8 bits are right to half a step.
    np.testing.assert_allclose(np.asarray(picture) / 255.0, textured.texture, atol=0.5 / 255 + 1e-6)
    # The colour at the top of the ball is its place, which the texture was painted with.
    start = sample_mesh(tmp_path / name, 500, torch.Generator().manual_seed(0))
    assert (start.colors - start.points.clamp(0.0, 1.0)).abs().mean() < 0.01


def test_a_glb_has_matt_materials_and_one_embedded_png(textured, tmp_path):
    described = glb_json(write_glb(tmp_path / "model.glb", textured))
    surface = described["materials"][0]["pbrMetallicRoughness"]
    assert (surface["metallicFactor"], surface["roughnessFactor"]) == (0.0, 1.0)
    assert [image["mimeType"] for image in described["images"]] == ["image/png"]
    assert "NORMAL" in described["meshes"][0]["primitives"][0]["attributes"]


@pytest.mark.parametrize("mine", ["mug.png", "mug.mtl"])
def test_an_obj_writes_over_no_file_of_others(mine, textured, tmp_path):
    (tmp_path / mine).write_text("mine")
    with pytest.raises(FileExistsError, match=rf"Expected no .*{mine}, for it belongs to mug\.obj"):
        write_obj(tmp_path / "mug.obj", textured)
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [(mine, "mine")]
    (tmp_path / mine).unlink()
    for _ in range(2):
        write_obj(tmp_path / "mug.obj", textured)


def test_an_obj_names_the_files_beside_it(textured, tmp_path):
    write_obj(tmp_path / "mug.obj", textured)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["mug.mtl", "mug.obj", "mug.png"]
    assert "mtllib mug.mtl" in (tmp_path / "mug.obj").read_text()
    assert "map_Kd mug.png" in (tmp_path / "mug.mtl").read_text()


def test_a_texture_is_shown_as_it_is(textured, tmp_path):
    """Readers multiply it by Kd, or by the base colour's factor: both are 1. Matt: no Ks."""
    write_obj(tmp_path / "model.obj", textured)
    lines = dict(line.split(" ", 1) for line in (tmp_path / "model.mtl").read_text().splitlines() if " " in line)
    assert [float(value) for value in lines["Kd"].split()] == [1, 1, 1]
    assert [float(value) for value in lines["Ks"].split()] == [0, 0, 0]
    surface = glb_json(write_glb(tmp_path / "model.glb", textured))["materials"][0]["pbrMetallicRoughness"]
    assert surface.get("baseColorFactor", [1, 1, 1, 1]) == [1, 1, 1, 1]


@pytest.mark.parametrize("name", ["my mug.obj", "a b  c.glb", "m\u00fcg #1.obj"])
def test_names_with_spaces_and_signs(name, textured, tmp_path):
    path = (write_obj if name.endswith("obj") else write_glb)(tmp_path / "a folder" / name, textured)
    found = opened(path)
    np.testing.assert_allclose(found.visual.uv, textured.uv, atol=1e-6)
    material = found.visual.material
    picture = material.image if name.endswith("obj") else material.baseColorTexture
    assert picture.size == (128, 128)
    for file in path.parent.iterdir():
        assert file == path or not {" ", "#"} & {*file.name}


@pytest.mark.parametrize(("write", "name"), [(write_obj, "x.glb"), (write_glb, "x.obj"), (write_glb, "x")])
def test_another_formats_name_is_refused(write, name, textured, tmp_path):
    with pytest.raises(ValueError, match=rf"^Expected a file name that ends in \.\w+, but got '{name}'\. Rename it\.$"):
        write(tmp_path / name, textured)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", WRITERS)
def test_degenerate_faces_and_texture_coordinates_of_no_area(name, tmp_path):
    """Two corners are one vertex, and all texture coordinates one point: nothing becomes not-a-number or is lost."""
    mesh = BakedMesh(
        vertices=torch.eye(3),
        faces=torch.tensor([[0, 1, 2], [0, 1, 1]]),
        normals=torch.full((3, 3), 3**-0.5),
        uv=torch.full((3, 2), 0.5),
        texture=torch.rand(16, 16, 3),
    )
    found = opened(WRITERS[name](tmp_path / name, mesh))
    np.testing.assert_array_equal(found.faces, mesh.faces)
    np.testing.assert_allclose(found.vertices, mesh.vertices, atol=1e-6)
    np.testing.assert_allclose(found.vertex_normals, mesh.normals, atol=1e-6)
    np.testing.assert_allclose(found.visual.uv, mesh.uv, atol=1e-6)


@pytest.mark.parametrize("name", WRITERS)
def test_a_failed_write_leaves_the_old_files_and_no_other(name, textured, tmp_path, monkeypatch):
    WRITERS[name](tmp_path / name, textured)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    def fail(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"):
        WRITERS[name](tmp_path / name, dataclasses.replace(textured, vertices=2.0 * textured.vertices))
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_looks_like_the_scene_from_every_side(name, tmp_path):
    scene = blobs()
    field = GaussianField(scene)
    mesh = extract_mesh(field.density, field.box, IsosurfaceConfig(level=0.3, resolution=32))
    WRITERS[name](tmp_path / name, bake_texture(mesh, field.color, size=128))
    start = sample_mesh(tmp_path / name, 2000, torch.Generator().manual_seed(0))
    red = start.points.float()[start.colors[:, 0] > 0.7]
    torch.testing.assert_close(red.mean(dim=0), torch.tensor([0.3, 0.0, 0.0]), atol=0.02, rtol=0)
    points = GaussianTensors(
        means=start.points.float(),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(len(start), 1),
        scales=torch.full((len(start), 3), 0.01),
        opacities=torch.full((len(start),), 0.9),
        colors=start.colors,
    )
    cameras = Cameras.orbit(elevation=[0.0, 0.0, 70.0], azimuth=[0.0, 90.0, 30.0], radius=2.0, fov_y=40.0, size=48)
    black = torch.zeros(3, 3)
    expected, found = (render_gaussians(each, cameras, black).color for each in (scene, points))
    for view in range(3):
        for channel in range(3):
            # Blobs of one colour: where the light is, to a pixel; what is hidden or missing would move or dim it.
            torch.testing.assert_close(
                centroid(found[view, ..., channel]), centroid(expected[view, ..., channel]), atol=1.0, rtol=0
            )


def centroid(image: torch.Tensor) -> torch.Tensor:
    """Mean (row, column) of the light in an image "H W"; nothing where there is none to speak of."""
    if image.sum() < 1.0:
        return torch.full((2,), -1.0)
    axis = torch.arange(len(image)).float()
    return torch.stack([(image.sum(dim=1) * axis).sum(), (image.sum(dim=0) * axis).sum()]) / image.sum()


def test_a_mesh_stands_on_the_floor_in_the_size_asked_for(textured):
    low, high = place_mesh(textured, floor=True, size=0.3).vertices.aminmax(dim=0)
    torch.testing.assert_close(high - low, torch.full((3,), 0.3))  # A ball.
    torch.testing.assert_close(low, torch.tensor([-0.15, 0.0, -0.15]), atol=1e-6, rtol=0)
    torch.testing.assert_close(place_mesh(textured, size=2.0).vertices, 2.0 * textured.vertices)
    for size in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=f"Expected a finite size above 0, but got {size}"):
            place_mesh(textured, size=size)


def test_a_glb_says_what_its_buffers_are_for(textured, tmp_path):
    described = glb_json(write_glb(tmp_path / "model.glb", textured))
    (primitive,) = described["meshes"][0]["primitives"]
    views = {name: described["accessors"][place]["bufferView"] for name, place in primitive["attributes"].items()}
    targets = {name: described["bufferViews"][view].get("target") for name, view in views.items()}
    assert targets == dict.fromkeys(("POSITION", "NORMAL", "TEXCOORD_0"), 34962)
    indices = described["accessors"][primitive["indices"]]["bufferView"]
    assert described["bufferViews"][indices]["target"] == 34963
