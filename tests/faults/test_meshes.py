"""Damaged files of meshes and points to start from: refused in one sentence that names them, or read as points."""

import random
import re
import warnings

import pytest
import torch
import trimesh
from PIL import Image
from trimesh.visual import TextureVisuals
from trimesh.visual.material import PBRMaterial

from hash3d.export.points import write_ply
from hash3d.representations.gaussians import GaussiansConfig
from hash3d.representations.point_start import PointStartConfig

NUMBER = re.compile(rb"(?<![\w.])-?\d+(\.\d+)?")
NONSENSE = (b"99999999999", b"-1", b"nan", b"inf", b"1e400", b"0", b"x", b"", b"4294967297", b"1e30")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Files of each kind: binary and ASCII, with colours at vertices, a texture, or none, meshes, points, Gaussians."""
    folder = tmp_path_factory.mktemp("meshes")
    ball = trimesh.creation.icosphere(subdivisions=1)
    textured = trimesh.Trimesh(ball.vertices, ball.faces, process=False)
    material = PBRMaterial(baseColorTexture=Image.new("RGB", (16, 16), (9, 99, 200)))
    textured.visual = TextureVisuals(uv=0.5 + 0.5 * ball.vertices[:, :2], material=material)
    textured.export(folder / "textured.glb")
    ball.visual.vertex_colors = (255 * (0.5 + 0.5 * ball.vertices)).astype("uint8")
    for ending in ("ply", "obj", "glb", "stl", "off"):
        ball.export(folder / f"ball.{ending}")
    ball.export(folder / "ascii.ply", encoding="ascii")
    trimesh.PointCloud(ball.vertices, colors=ball.visual.vertex_colors).export(folder / "points.ply")
    write_ply(folder / "gaussians.ply", GaussiansConfig(num_points=9).build(torch.Generator().manual_seed(0)))
    return sorted(folder.iterdir())


def damage(content, draw):
    """Cut, change bytes of, or replace a number of a file."""
    kind, numbers = draw.random(), list(NUMBER.finditer(content[:3000]))
    if kind < 0.25:
        return content[: draw.randrange(len(content))]
    if kind < 0.5 and numbers:
        number = draw.choice(numbers)
        return content[: number.start()] + draw.choice(NONSENSE) + content[number.end() :]
    changed = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        changed[draw.randrange(len(changed) if draw.random() < 0.5 else min(len(changed), 400))] = draw.randrange(256)
    return bytes(changed)


def try_one(whole, folder, seed):
    draw = random.Random(seed)
    source = draw.choice(whole)
    file = folder / source.name
    file.write_bytes(damage(source.read_bytes(), draw))
    try:
        with warnings.catch_warnings(action="ignore"):
            start = PointStartConfig(file=file, num_points=200).build(torch.Generator().manual_seed(0))
    except ValueError as error:
        assert str(file) in str(error), seed  # noqa: PT017
        assert "\n" not in str(error).strip(), seed  # noqa: PT017
    else:
        assert len(start) > 0, seed
        assert start.points.isfinite().all(), seed
        assert ((start.colors >= 0.0) & (start.colors <= 1.0)).all(), seed


def test_damaged_meshes(whole, tmp_path):
    for seed in range(30):
        try_one(whole, tmp_path, seed)


@pytest.mark.nightly
def test_many_damaged_meshes(whole, tmp_path, record_property):
    """Files of meshes and points with bytes or numbers changed, or their end cut off: read to start from."""
    for seed in range(4000):
        record_property("tried", seed + 1)
        try_one(whole, tmp_path, seed)
