"""A budget of triangles: quadric edge collapse (Garland and Heckbert 1997), by the package fast-simplification."""

import numpy as np
import torch

from hash3d.kernels import import_extra
from hash3d.representations.mesh import Mesh

FEWEST = 4
"""A tetrahedron's faces."""


def limit_faces(mesh: Mesh, max_faces: int | None) -> Mesh:
    """Return a mesh of at most `max_faces` faces, on the mesh's device; the mesh itself where it has no more.

    Raises `ValueError` for fewer than a tetrahedron's, and where it cannot be simplified so far; `ImportError` without
    the package.
    """
    if max_faces is None or len(mesh.faces) <= max_faces:
        return mesh
    if max_faces < FEWEST:
        raise ValueError(f"Expected at least {FEWEST} faces, but got {max_faces}.")
    simplify = import_extra("fast_simplification", "simplify", "fewer faces").simplify
    points = mesh.vertices.detach().cpu().numpy().astype(np.float32)
    vertices, faces = simplify(points, mesh.faces.cpu().numpy().astype(np.int32), target_count=max_faces)
    corners = np.sort(faces, axis=1)  # Collapsed faces, and two on one another, have no normal.
    _, which, counts = np.unique(corners, axis=0, return_inverse=True, return_counts=True)
    faces = faces[(counts[which.ravel()] == 1) & (corners[:, :2] != corners[:, 1:]).all(axis=1)]
    used, places = np.unique(faces, return_inverse=True)
    vertices, faces = vertices[used], places.reshape(-1, 3)
    if not 0 < len(faces) <= max_faces:
        raise ValueError(f"Expected to keep {max_faces} faces, but {len(faces)} are left. Ask for more.")
    device = mesh.vertices.device
    return Mesh(vertices=torch.from_numpy(vertices).to(device), faces=torch.from_numpy(faces).long().to(device))
