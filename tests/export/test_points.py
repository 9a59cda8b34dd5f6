import os
import re

import numpy as np
import pytest
import torch

from hash3d.export.points import read_ply, write_ply
from hash3d.representations.gaussians import PARAMETER_NAMES


def test_a_file_reopened_equals_the_parameters_exactly(gaussians, tmp_path):
    found = read_ply(write_ply(tmp_path / "scene.ply", gaussians))
    for name in PARAMETER_NAMES:
        assert torch.equal(found[name], getattr(gaussians, name).detach()), name


def test_the_inria_header_and_bytes_are_as_its_viewers_expect(gaussians, tmp_path):
    content = write_ply(tmp_path / "scene.ply", gaussians).read_bytes()
    head, body = content.split(b"end_header\n")
    names = re.findall(r"property float (\S+)\n", head.decode())
    assert head.startswith(b"ply\nformat binary_little_endian 1.0\nelement vertex 17\n")
    expected = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert names == expected.split()
    table = np.frombuffer(body, "<f4").reshape(17, len(names))
    assert (table[:, 3:6] == 0).all()
    np.testing.assert_array_equal(table[:, 9], gaussians.opacity_logits.detach().numpy())


def test_a_file_without_normals_is_read_too(gaussians, tmp_path):
    """As gsplat's exporter writes it."""
    path = write_ply(tmp_path / "scene.ply", gaussians)
    expected = read_ply(path)
    head, body = path.read_bytes().split(b"end_header\n")
    table = np.frombuffer(body, "<f4").reshape(17, 17)
    head = re.sub(rb"property float n[xyz]\n", b"", head)
    path.write_bytes(head + b"end_header\n" + np.delete(table, [3, 4, 5], axis=1).tobytes())
    for name, values in read_ply(path).items():
        assert torch.equal(values, expected[name]), name


def test_comments_in_the_header_are_passed_over(gaussians, tmp_path):
    path = write_ply(tmp_path / "scene.ply", gaussians)
    path.write_bytes(path.read_bytes().replace(b"element", b"comment made by hand\nobj_info 3 views\nelement"))
    assert torch.equal(read_ply(path)["means"], gaussians.means.detach())


def test_colours_that_depend_on_the_direction_are_left_out_and_told(gaussians, tmp_path):
    path = write_ply(tmp_path / "scene.ply", gaussians)
    path.write_bytes(path.read_bytes().replace(b"float nx", b"float f_rest_0"))
    with pytest.warns(UserWarning, match=r"\(f_rest\) are left out"):
        assert torch.equal(read_ply(path)["sh0"], gaussians.sh0.detach())


def test_rows_that_are_not_finite_are_left_out(gaussians, tmp_path):
    gaussians.means.data[3, 1] = float("nan")
    assert len(read_ply(write_ply(tmp_path / "scene.ply", gaussians))["means"]) == 16


def test_a_failed_write_leaves_the_old_file_and_no_other(gaussians, tmp_path, monkeypatch):
    path = write_ply(tmp_path / "scene.ply", gaussians)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"):
        write_ply(path, gaussians)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["scene.ply"]


@pytest.mark.parametrize("content", [b"", b"ply\nformat ascii 1.0\nend_header\n", b"\x00\xff" * 40])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other.ply").write_bytes(content)
    with pytest.raises(ValueError, match="Expected a little-endian binary PLY"):
        read_ply(tmp_path / "other.ply")


def test_a_file_of_another_size_is_refused_unread(gaussians, tmp_path):
    path = write_ply(tmp_path / "model.ply", gaussians)
    os.truncate(path, 2**40)  # Sparse: to read it would take a terabyte of memory.
    with pytest.raises(ValueError, match="bytes of Gaussians"):
        read_ply(path)


def test_a_truncated_file_is_refused(gaussians, tmp_path):
    path = write_ply(tmp_path / "scene.ply", gaussians)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="bytes of Gaussians"):
        read_ply(path)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        (b"element vertex 17", line, "lacks this layout")
        for line in (b"element", b"element vertex", b"element vertex -1", b"element face 17", b" ", b"element vertex x")
    ]
    + [
        (b"property float x", b"property", "lacks this layout"),
        (b"property float x\n", b"property float u\n", r"lacks \['x'\]"),
    ],
)
def test_another_header_is_refused(old, new, match, gaussians, tmp_path):
    path = write_ply(tmp_path / "scene.ply", gaussians)
    path.write_bytes(path.read_bytes().replace(old, new))
    with pytest.raises(ValueError, match=match):
        read_ply(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_row_that_is_not_finite_is_refused(value, gaussians, tmp_path):
    path = write_ply(tmp_path / "scene.ply", gaussians)
    path.write_bytes(path.read_bytes()[:-4] + np.float32(value).tobytes())
    with pytest.raises(ValueError, match="finite Gaussians"):
        read_ply(path)


def test_another_formats_name_is_refused(gaussians, tmp_path):
    with pytest.raises(ValueError, match=r"^Expected a file name that ends in \.ply, but got 'x\.glb'\. Rename it\.$"):
        write_ply(tmp_path / "x.glb", gaussians)
    assert len(read_ply(write_ply(tmp_path / "X.PLY", gaussians))["means"]) == 17
