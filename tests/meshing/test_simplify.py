"""Fewer faces of the same shape."""

import sys
import types

import numpy as np
import pytest
import torch
import trimesh

from hash3d.meshing.simplify import limit_faces
from hash3d.representations.mesh import Mesh


@pytest.fixture
def ball():
    sphere = trimesh.creation.icosphere(subdivisions=3)
    return Mesh(vertices=torch.tensor(sphere.vertices).float(), faces=torch.tensor(sphere.faces).long())


def test_a_mesh_within_its_budget_stays_as_it_is(ball):
    assert limit_faces(ball, None) is ball
    assert limit_faces(ball, len(ball)) is ball


def test_a_ball_of_a_quarter_of_its_faces_is_a_closed_ball(ball):
    pytest.importorskip("fast_simplification")
    fewer = limit_faces(ball, len(ball) // 4)
    assert 0.9 * len(ball) / 4 < len(fewer) <= len(ball) // 4
    assert (fewer.vertices.norm(dim=-1) - 1.0).abs().max() < 0.05
    edges = torch.cat([fewer.faces[:, [a, b]] for a, b in ((0, 1), (1, 2), (2, 0))])
    assert {(a, b) for a, b in edges.tolist()} == {(b, a) for a, b in edges.tolist()}, "closed, and turned one way"
    assert ((fewer.vertices[fewer.faces].mean(dim=1) * fewer.face_normals).sum(-1) > 0).all(), "outwards"


def test_faces_without_a_normal_go(ball, monkeypatch):
    """A collapsed face, and a fin: two faces of three vertices that only they have, turned against each other."""
    module = types.ModuleType("fast_simplification")
    vertices = np.array([[9, 9, 9], [0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [2, 2, 2], [3, 2, 2]], np.float32)
    closed = [[1, 3, 2], [1, 2, 4], [2, 3, 4], [3, 1, 4]]
    module.simplify = lambda *_, **__: (vertices, np.array([*closed, [1, 5, 6], [6, 5, 1], [2, 2, 5]], np.int32))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    fewer = limit_faces(ball, 10)
    assert torch.equal(fewer.vertices, torch.from_numpy(vertices[1:5]))
    assert torch.equal(fewer.faces, torch.tensor(closed) - 1)


def test_what_cannot_be_is_told(ball, monkeypatch):
    with pytest.raises(ValueError, match="Expected at least 4 faces, but got 3"):
        limit_faces(ball, 3)
    monkeypatch.setitem(sys.modules, "fast_simplification", None)
    with pytest.raises(ImportError, match=r'-m pip install "hash3d\[simplify\]"'):
        limit_faces(ball, 100)
