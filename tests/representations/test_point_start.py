"""Points and colours from files, in our axes, and points that grow around them."""

import math
import warnings

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from scipy.stats import kstest

from hash3d.export.points import write_ply
from hash3d.representations.gaussians import Gaussians, GaussiansConfig
from hash3d.representations.point_start import (
    GrowthConfig,
    PointStart,
    PointStartConfig,
    grow_points,
    read_point_cloud,
    sample_mesh,
)

POINTS = np.array([[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 3.0]])
COLORS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [51, 102, 153]], dtype=np.uint8)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def cloud_file(tmp_path):
    trimesh.PointCloud(POINTS, colors=COLORS).export(tmp_path / "cloud.ply")
    return tmp_path / "cloud.ply"


def test_a_point_cloud_with_colours(cloud_file):
    start = read_point_cloud(cloud_file)
    torch.testing.assert_close(start.points, torch.tensor(POINTS))
    torch.testing.assert_close(start.colors, torch.tensor(COLORS / 255.0).float())


def test_a_file_with_z_up_is_turned_upright(cloud_file):
    start = read_point_cloud(cloud_file, "z")
    # Up stays up, right stays right, and what was behind (+y) is behind (-z).
    torch.testing.assert_close(start.points[3], torch.tensor([0.0, 3.0, 0.0]).double())
    torch.testing.assert_close(start.points[1], torch.tensor([1.0, 0.0, 0.0]).double())
    torch.testing.assert_close(start.points[2], torch.tensor([0.0, 0.0, -2.0]).double())


def test_a_text_file_without_colours_is_grey(tmp_path):
    rows = "\n".join(" ".join(str(number) for number in row) for row in POINTS)
    names = "".join(f"property float {name}\n" for name in "xyz")
    (tmp_path / "bare.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 4\n{names}end_header\n{rows}\n")
    with pytest.warns(UserWarning, match="bare.ply, or a part of it, has no colours"):
        start = read_point_cloud(tmp_path / "bare.ply")
    torch.testing.assert_close(start.points, torch.tensor(POINTS))
    assert (start.colors == 0.5).all()


@pytest.mark.parametrize("colors", [("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"), "rgb"])
@pytest.mark.parametrize(("kind", "largest"), [("uchar", 255), ("ushort", 65535), ("float", 1), ("float", 255)])
@pytest.mark.parametrize("form", ["ascii", "binary_big_endian"])
def test_colours_of_any_name_and_number_type(colors, kind, largest, form, tmp_path):
    given, types = [largest, 0.2 * largest, 0], {"uchar": "u1", "ushort": "u2", "float": "f4"}
    names = "".join(f"property float {name}\n" for name in "xyz")
    names += "".join(f"property {kind} {name}\n" for name in colors)
    row = np.array([(1.0, 2.0, 3.0, *given)], dtype=",".join([">f4"] * 3 + [f">{types[kind]}"] * 3))
    data = (" ".join(map(str, row[0].tolist()))).encode() if form == "ascii" else row.tobytes()
    header = f"ply\nformat {form} 1.0\nelement vertex 1\n{names}end_header\n"
    (tmp_path / "colours.ply").write_bytes(header.encode() + data)
    assert read_point_cloud(tmp_path / "colours.ply").colors.tolist() == [pytest.approx([1.0, 0.2, 0.0])]


def test_gaussians_of_an_earlier_run_keep_their_colours(tmp_path):
    colors = torch.rand(7, 3, generator=generator())
    scene = Gaussians(GaussiansConfig(), torch.randn(7, 3, generator=generator()), colors)
    start = read_point_cloud(write_ply(tmp_path / "scene.ply", scene))
    torch.testing.assert_close(start.points, scene.means.detach().double())
    torch.testing.assert_close(start.colors, colors, atol=1e-6, rtol=0)


def test_fitting_centres_the_box_and_reaches_the_radius():
    start = PointStart(points=torch.tensor(POINTS).float() + 5.0, colors=torch.zeros(4, 3)).fit(0.5)
    torch.testing.assert_close(start.points.amax(dim=0), -start.points.amin(dim=0))
    assert start.points.norm(dim=-1).max() == pytest.approx(0.5)


def write_cloud(path, points, dtype="double"):
    code = {"double": "<f8", "float": "<f4"}[dtype]
    names = "".join(f"property {dtype} {name}\n" for name in "xyz")
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{names}end_header\n"
    path.write_bytes(header.encode() + np.asarray(points).astype(code).tobytes())
    return path


FAR = np.array([5e5, 4.2e6, 100.0])
"""Map coordinates in metres."""


@pytest.mark.parametrize("up", ["y", "z"])
@pytest.mark.parametrize(
    ("scale", "offset"),
    [(1.0, FAR), (1e-3, -FAR), (1e30, 0.0), (1e-30, 0.0), (1e200, 0.0), (1e-200, 0.0)],
    ids=["map", "small on a map", "large", "small", "squares overflow", "squares vanish"],
)
def test_a_point_cloud_keeps_its_shape_anywhere_and_at_any_scale(scale, offset, up, tmp_path):
    points = np.random.default_rng(0).normal(size=(500, 3))
    near = PointStartConfig(file=write_cloud(tmp_path / "near.ply", points), up=up).build(generator())
    moved = write_cloud(tmp_path / "moved.ply", scale * points + offset)
    found = PointStartConfig(file=moved, up=up).build(generator())
    assert found.points.dtype == torch.float32
    # Doubles at 4.2e6 are 1e-9 apart: 1e-6 of a cloud of size 1e-3.
    torch.testing.assert_close(found.points, near.points, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", ["ball.obj", "ball.ply", "ball.stl"])
@pytest.mark.parametrize(("scale", "offset"), [(1.0, FAR), (1e-12, 0.0), (1e12, 0.0)], ids=["map", "small", "large"])
def test_a_mesh_keeps_its_shape_anywhere_and_at_any_scale(scale, offset, name, tmp_path):
    mesh = trimesh.creation.icosphere(subdivisions=2)
    mesh.vertices = scale * mesh.vertices + offset
    if name.endswith("obj"):
        lines = [f"v {x!r} {y!r} {z!r}" for x, y, z in mesh.vertices.tolist()]
        lines += ["f " + " ".join(str(corner + 1) for corner in face) for face in mesh.faces]
        (tmp_path / name).write_text("\n".join(lines))
    else:
        mesh.export(tmp_path / name)
    if not name.endswith("obj") and scale == 1.0:  # Written in single precision: the shape is lost, which is said.
        with pytest.warns(UserWarning, match=r"are rounded to about 0\.5, for a shape of size"):
            PointStartConfig(file=tmp_path / name).build(generator())
        return
    start = PointStartConfig(file=tmp_path / name, num_points=2000, radius=2.0).build(generator())
    # The samples of a sphere of 320 faces lie at most 4 % inside it.
    assert start.points.norm(dim=-1).min() > 0.95 * 2.0
    assert start.points.norm(dim=-1).max() == pytest.approx(2.0)
    assert kstest(start.points[:, 1] / 2.0, "uniform", args=(-1, 2)).pvalue > 0.001


def test_a_cloud_that_single_precision_has_rounded_is_told(tmp_path):
    points = np.random.default_rng(0).normal(size=(50, 3)) + FAR
    with pytest.warns(UserWarning, match=r"Move it to the origin before exporting it, or export it in double"):
        read_point_cloud(write_cloud(tmp_path / "far.ply", points, "float"))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "The positions")
        read_point_cloud(write_cloud(tmp_path / "near.ply", points - FAR, "float"))


@pytest.mark.parametrize("offset", [0.0, 4.2e6 + 0.1])
@pytest.mark.parametrize("count", [1, 7])
def test_a_single_place_has_no_shape(count, offset, tmp_path):
    file = write_cloud(tmp_path / "one.ply", np.full((count, 3), offset))
    with pytest.raises(ValueError, match=f"Expected points that differ, but all {count} lie at"):
        PointStartConfig(file=file).build(generator())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_refused(value, tmp_path):
    points = np.random.default_rng(0).normal(size=(9, 3))
    points[4, 1] = points[6, 2] = value
    with pytest.raises(ValueError, match="to hold points, but 2 of its 9 are not finite"):
        read_point_cloud(write_cloud(tmp_path / "points.ply", points))
    mesh = trimesh.creation.box()
    mesh.vertices[3, 0] = value
    mesh.export(tmp_path / "mesh.ply")
    with pytest.raises(ValueError, match="to hold points, but 1 of its 8 are not finite"):
        sample_mesh(tmp_path / "mesh.ply", 10, generator())
    header = "".join(f"property float {name}\n" for name in "xyzrgb")
    rows = f"0 0 0 1 1 1\n1 0 0 1 {value} 1\n"
    (tmp_path / "colors.ply").write_text(f"ply\nformat ascii 1.0\nelement vertex 2\n{header}end_header\n{rows}")
    with pytest.raises(ValueError, match=r"colors\.ply .*some of its colours are not finite"):
        read_point_cloud(tmp_path / "colors.ply")


def test_samples_are_uniform_on_the_surface(tmp_path):
    trimesh.creation.icosphere(subdivisions=4).export(tmp_path / "ball.obj")
    start = sample_mesh(tmp_path / "ball.obj", 4000, generator())
    torch.testing.assert_close(start.points.norm(dim=-1), torch.ones(4000).double(), atol=0.005, rtol=0)
    # Archimedes: each coordinate of a uniform point on a sphere is uniform.
    for axis in range(3):
        assert kstest(start.points[:, axis], "uniform", args=(-1, 2)).pvalue > 0.001
    again = sample_mesh(tmp_path / "ball.obj", 4000, generator())
    assert torch.equal(start.points, again.points)
    assert not torch.equal(start.points, sample_mesh(tmp_path / "ball.obj", 4000, generator(1)).points)


@pytest.mark.parametrize("name", ["box.ply", "box.obj", "box.glb"])
def test_vertex_colours_are_mixed_within_a_face(name, tmp_path):
    box = trimesh.creation.box()
    colors = (255 * (box.vertices + 0.5)).round().astype(np.uint8)
    mesh = trimesh.Trimesh(box.vertices, box.faces, vertex_colors=colors, process=False)
    mesh.export(tmp_path / name)
    start = sample_mesh(tmp_path / name, 500, generator())
    expected = start.points + 0.5
    if name.endswith("glb"):  # linear there: sRGB of a half is 0.735
        expected = torch.where(expected > 0.0031308, 1.055 * expected ** (1 / 2.4) - 0.055, 12.92 * expected)
    torch.testing.assert_close(start.colors, expected.clamp(0, 1).float(), atol=0.005, rtol=0)


def test_a_texture_colours_the_samples(tmp_path):
    # A square in the plane of x and y: u follows x, v follows y; red on the left half, the top green.
    pixels = np.zeros((64, 64, 3), dtype=np.uint8)
    pixels[:, :32, 0] = pixels[:32, :, 1] = 255
    material = trimesh.visual.material.PBRMaterial(baseColorTexture=Image.fromarray(pixels))
    visual = trimesh.visual.TextureVisuals(uv=[[0, 0], [1, 0], [1, 1], [0, 1]], material=material)
    vertices = [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    trimesh.Trimesh(vertices, [[0, 1, 2], [0, 2, 3]], visual=visual, process=False).export(tmp_path / "square.glb")
    start = sample_mesh(tmp_path / "square.glb", 1000, generator())
    clear = ((start.points[:, :2] - 0.5).abs() > 0.02).all(dim=-1)
    expected = torch.stack([start.points[:, 0] < 0.5, start.points[:, 1] > 0.5], dim=-1).float()
    assert torch.equal(start.colors[clear][:, :2], expected[clear])


def test_growth_fills_the_neighbourhood_and_repeats_with_its_seed():
    start = PointStart(points=torch.tensor([[0.0, 0, 0], [1, 1, 1]]), colors=torch.tensor([[0.1] * 3, [0.9] * 3]))
    config = GrowthConfig(num_candidates=20_000, distance=0.3)
    grown = grow_points(start, config, generator())
    added = len(grown) - 2
    # Of the unit box each of the two corners takes an eighth of a ball.
    share = 2 / 8 * 4 / 3 * math.pi * 0.3**3
    assert added / 20_000 == pytest.approx(share, rel=0.15)
    assert torch.equal(grown.points[added:], start.points)
    assert torch.equal(grown.colors[added:], start.colors)
    distances, nearest = torch.cdist(grown.points[:added], start.points).min(dim=-1)
    assert distances.max() < 0.3
    noise = grown.colors[:added] - start.colors[nearest]
    assert noise.min() >= 0.0
    dark = noise[nearest == 0]
    assert kstest(dark.flatten(), "uniform", args=(0, 0.2)).pvalue > 0.001
    assert grown.colors.max() == 1.0
    assert torch.equal(grown.colors, grow_points(start, config, generator()).colors)


def test_a_configuration_builds_from_either_kind_of_file(cloud_file, tmp_path):
    trimesh.creation.box(extents=[2, 4, 6]).export(tmp_path / "box.ply")
    mesh = PointStartConfig(file=tmp_path / "box.ply", radius=0.7, num_points=500).build(generator())
    assert len(mesh) == 500
    assert mesh.points.norm(dim=-1).max() == pytest.approx(0.7)
    few = PointStartConfig(file=cloud_file, num_points=3).build(generator())
    assert len(few) == 3
    growth = GrowthConfig(num_candidates=5000, distance=0.5)
    grown = PointStartConfig(file=cloud_file, radius=2.0, growth=growth).build(generator())
    assert len(grown) > 100
    # Points grow in units of the radius, within the box of the points.
    original = read_point_cloud(cloud_file).fit(2.0).points
    distances = torch.cdist(grown.points, original).min(dim=-1).values
    assert 0.5 < distances.max() <= 1.0
    scene = Gaussians(GaussiansConfig(), grown.points, grown.colors)
    torch.testing.assert_close(scene.gaussians().colors, grown.colors)


def test_files_that_cannot_be_a_start(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        read_point_cloud(tmp_path / "none.ply")
    (tmp_path / "garbage.ply").write_bytes(b"\x00garbage")
    with pytest.raises(ValueError, match="does not read"):
        read_point_cloud(tmp_path / "garbage.ply")
    (tmp_path / "points.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\n")
    with pytest.raises(ValueError, match="no faces"):
        sample_mesh(tmp_path / "points.obj", 10, generator())
    (tmp_path / "empty.ply").write_text(
        "ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\nproperty float z\nend_header\n"
    )
    with pytest.raises(ValueError, match="to hold points, but it has none"):
        read_point_cloud(tmp_path / "empty.ply")
    (tmp_path / "flat.obj").write_text("v 0 0 0\nv 1 0 0\nv 2 0 0\nf 1 2 3\n")
    with pytest.raises(ValueError, match="area is 0"):
        sample_mesh(tmp_path / "flat.obj", 10, generator())


@pytest.mark.parametrize(
    ("faces", "damage"), [(1, (b"3 0 1 2", b"3 0 1 9")), (1, (b"3 0 1 2", b"3 0 1 -1")), (0, (b"9 9 9", b"9 9"))]
)
def test_damaged_numbers_of_a_ply_are_told_with_its_name(tmp_path, faces, damage):
    positions = "".join(f"property float {axis}\n" for axis in "xyz")
    colors = "".join(f"property uchar {name}\n" for name in ("red", "green", "blue"))
    header = f"ply\nformat ascii 1.0\nelement vertex 3\n{positions}{colors}element face {faces}\n"
    rows = "0 0 0 9 9 9\n1 0 0 8 8 8\n0 1 0 7 7 7\n" + "3 0 1 2\n" * faces
    whole = f"{header}property list uchar int vertex_indices\nend_header\n{rows}".encode()
    file = tmp_path / "shape.ply"
    file.write_bytes(whole)
    PointStartConfig(file=file).build(generator())
    file.write_bytes(whole.replace(*damage))
    with pytest.raises(ValueError, match=r"shape\.ply to be a PLY .* does not read"):
        PointStartConfig(file=file).build(generator())


def test_settings_that_cannot_be(tmp_path):
    with pytest.raises(ValueError, match="above 0"):
        PointStartConfig(file=tmp_path, radius=0.0)
