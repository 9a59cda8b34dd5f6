"""A surface with room is the same surface: what is beyond its counts is seen nowhere, and has no gradient."""

import pytest
import torch

from hash3d.representations.dmtet import grid_vertices, marching_tetrahedra
from hash3d.scenes.losses import normal_consistency_loss

ROOMS = [(0, 0), (1, 2), (100, 30), (1000, 4000)]
"""More vertices and faces than there are."""


def random_values(kind):
    """Outside at the border of 5 cells a side; no vertex of the empty one is inside."""
    vertices = grid_vertices(5).double()
    border = ((vertices == 0) | (vertices == 1)).any(dim=-1)
    values = torch.randn(len(vertices), generator=torch.Generator().manual_seed(kind), dtype=torch.float64)
    values = torch.where(border, 1e-3, values)
    return vertices, values.abs() if kind == 0 else values


def measure(vertices, values, room=None):
    """A surface, a number that depends on all of it, and its gradients in values and vertices."""
    leaves = [each.clone().requires_grad_() for each in (values, vertices)]
    mesh = marching_tetrahedra(leaves[1], leaves[0], room)
    corners = mesh.vertices[mesh.faces]
    total = (mesh.face_normals * corners.sum(dim=1)).sum() + (mesh.face_areas[:, None] * corners[:, 0]).square().sum()
    total = total + 10.0 * normal_consistency_loss(mesh)
    return mesh, total, torch.autograd.grad(total, leaves)


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("more", ROOMS)
def test_the_surface_and_its_gradients_are_those_without_room(kind, more):
    vertices, values = random_values(kind)
    plain, expected, gradients = measure(vertices, values)
    count, number = len(plain.vertices), len(plain)
    assert (number == 0) == (kind == 0)
    room = max(count + more[0], 1), number + more[1]
    mesh, total, found = measure(vertices, values, room)
    assert (len(mesh.vertices), len(mesh)) == room
    assert mesh.counts.tolist() == [count, number]
    assert torch.equal(mesh.vertices[:count], plain.vertices)
    assert mesh.vertices.isfinite().all()
    assert torch.equal(mesh.faces[:number], plain.faces)
    assert (mesh.faces[number:] == mesh.faces[number:, :1]).all()
    assert mesh.face_areas[number:].eq(0).all()
    assert not number or (mesh.faces.min() >= 0 and mesh.faces.max() < room[0])
    torch.testing.assert_close(mesh.vertex_normals[:count], plain.vertex_normals)
    torch.testing.assert_close(total, expected)
    for each, gradient in zip(found, gradients, strict=True):
        torch.testing.assert_close(each, gradient)


@pytest.mark.parametrize("kind", range(4))
@pytest.mark.parametrize("more", ROOMS)
def test_its_edges_are_those_without_room_and_each_has_two_sides(kind, more):
    vertices, values = random_values(kind)
    plain = marching_tetrahedra(vertices, values)
    mesh = marching_tetrahedra(vertices, values, (len(plain.vertices) + more[0] + 1, len(plain) + more[1]))
    ends, of_face = mesh.edges.vertices, mesh.edges.of_face
    assert torch.equal(ends[ends[:, 0] != ends[:, 1]], plain.edges.vertices)
    assert torch.equal(ends[of_face[: len(plain)]], plain.edges.vertices[plain.edges.of_face])
    assert (torch.bincount(of_face.flatten(), minlength=len(ends)) == 2).all()
    sides = torch.stack([mesh.faces.roll(-1, 1), mesh.faces.roll(1, 1)], dim=-1).sort(dim=-1).values
    assert torch.equal(ends[of_face], sides)


@pytest.mark.parametrize("short", [(-1, 0), (0, -2), (-50, -100)])
def test_a_surface_that_is_too_large_says_so_in_finite_numbers(short):
    vertices, values = random_values(1)
    plain = marching_tetrahedra(vertices, values)
    room = len(plain.vertices) + short[0], len(plain) + short[1]
    mesh, total, gradients = measure(vertices, values, room)
    assert mesh.counts.tolist() == [len(plain.vertices), len(plain)]
    assert mesh.faces.max() < room[0]
    assert all(each.isfinite().all() for each in (total, *gradients))
