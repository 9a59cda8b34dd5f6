"""Files of splats, decoded anew: the same ellipsoids, colours and opacities, upright in each format's axes."""

import json
import shutil
import struct
import subprocess

import numpy as np
import pytest
import torch
import trimesh

from hash3d.export.mesh import write_glb
from hash3d.export.points import read_ply, write_ply
from hash3d.export.splats import write_splats
from hash3d.rendering._torch_splat import rotation_matrices
from hash3d.representations.gaussians import SH_DEGREE_0
from tests.shapes import bake_texture, ball

UPSIDE_DOWN = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
"""180 degrees around z: what viewers turn a PLY by."""


def covariances(quats: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
    axes = rotation_matrices(quats) * scales[:, None]
    return axes @ axes.mT


def columns_of(path) -> dict[str, torch.Tensor]:
    """The accessors of a GLB's only primitive, by the names of its attributes."""
    content = path.read_bytes()
    length = struct.unpack_from("<I", content, 12)[0]
    tree, body = json.loads(content[20 : 20 + length]), content[28 + length :]
    columns = {}
    for name, place in tree["meshes"][0]["primitives"][0]["attributes"].items():
        accessor = tree["accessors"][place]
        view = tree["bufferViews"][accessor["bufferView"]]
        values = np.frombuffer(body, "<f4", view["byteLength"] // 4, view["byteOffset"])
        columns[name.removeprefix("KHR_gaussian_splatting:")] = torch.tensor(values.reshape(accessor["count"], -1))
    return columns


def test_a_ply_is_turned_upright_by_viewers(gaussians, tmp_path):
    scene = gaussians.gaussians()
    _, body = write_ply(tmp_path / "a.ply", gaussians).read_bytes().split(b"end_header\n")
    table = torch.tensor(np.frombuffer(body, "<f4").reshape(17, 17).copy())
    torch.testing.assert_close(table[:, :3] @ UPSIDE_DOWN, scene.means)
    found = UPSIDE_DOWN @ covariances(table[:, 13:], table[:, 10:13].exp()) @ UPSIDE_DOWN
    torch.testing.assert_close(found, covariances(scene.quats, scene.scales), atol=1e-4, rtol=1e-4)


def test_a_splat_file_is_the_same_in_32_bytes_each_the_largest_first(gaussians, tmp_path):
    content = write_splats(tmp_path / "a.splat", gaussians).read_bytes()
    assert len(content) == 17 * 32
    rows = [struct.unpack("<6f8B", content[start : start + 32]) for start in range(0, len(content), 32)]
    table, scene = torch.tensor(rows, dtype=torch.float32), gaussians.gaussians()
    order = torch.cdist(table[:, :3] @ UPSIDE_DOWN, scene.means).argmin(dim=-1)
    assert sorted(order.tolist()) == list(range(17))
    size = scene.scales.prod(dim=-1) * scene.opacities
    assert (size[order].diff() <= 0).all()
    torch.testing.assert_close(table[:, 3:6], scene.scales[order])
    expected = torch.cat([scene.colors.clamp(max=1.0), scene.opacities[:, None]], dim=-1)[order]
    torch.testing.assert_close(table[:, 6:10] / 255.0, expected, atol=0.5 / 255 + 1e-6, rtol=0)  # Eight bits.
    found = UPSIDE_DOWN @ rotation_matrices(table[:, 10:] - 128.0) @ UPSIDE_DOWN
    half_turned = rotation_matrices(scene.quats[order]) @ UPSIDE_DOWN
    torch.testing.assert_close(found, half_turned, atol=0.03, rtol=0)  # A rotation of numbers to 1/256 each.


def test_a_glb_has_the_extension_s_attributes_with_y_up(gaussians, tmp_path):
    found, scene = columns_of(write_splats(tmp_path / "a.glb", gaussians)), gaussians.gaussians()
    torch.testing.assert_close(found["POSITION"], scene.means)
    torch.testing.assert_close(found["SCALE"], scene.scales)
    torch.testing.assert_close(found["OPACITY"][:, 0], scene.opacities)
    torch.testing.assert_close(found["ROTATION"].norm(dim=-1), torch.ones(17))
    found_rotations = rotation_matrices(found["ROTATION"][:, [3, 0, 1, 2]])
    torch.testing.assert_close(found_rotations, rotation_matrices(scene.quats), atol=1e-5, rtol=0)
    torch.testing.assert_close(0.5 + SH_DEGREE_0 * found["SH_DEGREE_0_COEF_0"], scene.colors)


def test_programs_without_the_extension_show_coloured_points(gaussians, tmp_path):
    (cloud,) = trimesh.load_scene(write_splats(tmp_path / "a.glb", gaussians)).geometry.values()
    scene = gaussians.gaussians()
    np.testing.assert_allclose(cloud.vertices, scene.means.detach(), atol=1e-6)
    np.testing.assert_allclose(cloud.colors[:, :3] / 255.0, scene.colors.detach().clamp(max=1.0), atol=1 / 255)


def test_rows_that_are_not_finite_are_left_out(gaussians, tmp_path):
    gaussians.means.data[3, 1] = float("nan")
    gaussians.log_scales.data[4, 2] = float("inf")
    assert len(write_splats(tmp_path / "a.splat", gaussians).read_bytes()) == 15 * 32
    assert len(columns_of(write_splats(tmp_path / "a.glb", gaussians))["POSITION"]) == 15
    assert len(read_ply(write_splats(tmp_path / "a.ply", gaussians))["means"]) == 15
    gaussians.means.data[:] = float("nan")
    for name in ("b.glb", "b.splat"):
        with pytest.raises(ValueError, match="there are none"):
            write_splats(tmp_path / name, gaussians)


VALIDATE = """
require("gltf-validator").validateBytes(new Uint8Array(require("fs").readFileSync(process.argv[1])))
    .then(report => console.log(JSON.stringify(report.issues)))
"""


def test_the_khronos_validator_finds_nothing(gaussians, tmp_path):
    node = shutil.which("node")
    if node is None or subprocess.run([node, "-e", 'require("gltf-validator")'], capture_output=True).returncode:
        pytest.skip("npm's gltf-validator is not here: install it in a folder, and name its node_modules in NODE_PATH")
    files = [
        write_splats(tmp_path / "splats.glb", gaussians),
        write_glb(tmp_path / "mesh.glb", bake_texture(ball(8), lambda points: points + 0.5, size=64)),
    ]
    for file in files:
        said = subprocess.run([node, "-e", VALIDATE, str(file)], capture_output=True, text=True, check=True).stdout
        messages = json.loads(said)["messages"]
        # It is older than the extension, and says of each of its names that it does not know it.
        known = [each for each in messages if "KHR_gaussian_splatting" not in each["pointer"] + each["message"]]
        assert not known, file
