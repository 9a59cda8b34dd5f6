"""Write textured triangle meshes as GLB, and as OBJ with MTL and PNG.

Axes: the world of `hash3d.cameras` (right-handed, +y up, front +z, one unit a scene unit) is that of glTF and the usual
one of OBJ, so positions are written as they are. Colours are sRGB.
"""

import re
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor

from hash3d.files import check_suffix, write_bytes

from .turntable import encode_image

ARRAY_BUFFER, ELEMENT_ARRAY_BUFFER = 34962, 34963
"""What glTF calls the buffers of vertices and of indices."""


@dataclass(frozen=True, kw_only=True)
class BakedMesh:
    """A textured mesh, cut open along the seams: a vertex on a seam is there once for each side."""

    vertices: Float[Tensor, "V 3"]
    """In scene units."""
    faces: Int[Tensor, "F 3"]
    """Counter-clockwise seen from outside."""
    normals: Float[Tensor, "V 3"]
    """Unit normals of the mesh before it was cut, so that no seam shows in the light."""
    uv: Float[Tensor, "V 2"]
    """Texture coordinates in [0, 1]: u to the right, v up, (0, 0) at the texture's lower left corner."""
    texture: Float[Tensor, "H W 3"]
    """RGB in [0, 1], the first row on top."""


def write_glb(path: Path, mesh: BakedMesh) -> Path:
    """Write binary glTF 2.0, whole or not at all. Returns `path`; raises `ValueError` if it does not end in .glb."""
    path = check_suffix(path, ".glb")
    write_bytes(path, _to_trimesh(mesh).export(file_type="glb", include_normals=True, tree_postprocessor=_name_targets))
    return path


def write_obj(path: Path, mesh: BakedMesh) -> Path:
    """Write a Wavefront OBJ to `path` and return `path`; the texture goes to an MTL and a PNG of that name beside it.

    Each file is written whole or not at all, the OBJ last. The names of the MTL and the PNG have underscores for #, and
    for spaces, which end a name for many readers. Raises `ValueError` if `path` does not end in .obj, and
    `FileExistsError` if an MTL or a PNG of that name is there without the OBJ: it is another's.
    """
    from trimesh.exchange.obj import export_obj
    from trimesh.visual.material import SimpleMaterial

    path = check_suffix(path, ".obj")
    name = re.sub(r"[\s#]", "_", path.stem)
    geometry = _to_trimesh(mesh)
    white, black = [255, 255, 255, 255], [0, 0, 0, 255]  # MTL multiplies the texture by Kd.
    geometry.visual.material = SimpleMaterial(
        image=_as_png(mesh.texture), diffuse=white, ambient=white, specular=black, name=name
    )
    text, others = export_obj(geometry, include_normals=True, return_texture=True, mtl_name=f"{name}.mtl", header=None)
    files = {path.with_name(name): content for name, content in others.items()}
    if taken := [] if path.exists() else [file for file in files if file.exists()]:
        raise FileExistsError(f"Expected no {taken[0]}, for it belongs to {path.name}. Choose another name.")
    for file, content in files.items():
        write_bytes(file, content)
    write_bytes(path, text.encode())
    return path


def place_mesh(mesh: BakedMesh, *, floor: bool = False, size: float | None = None) -> BakedMesh:
    """Move and scale a mesh for the program that opens it.

    Args:
        mesh: in scene units.
        floor: whether the middle of the bounding box's lower side comes to the origin.
        size: the bounding box's longest side afterwards, above 0; None keeps it.
    """
    if size is not None and not 0.0 < size < float("inf"):
        raise ValueError(f"Expected a finite size above 0, but got {size}.")
    low, high = mesh.vertices.amin(dim=0), mesh.vertices.amax(dim=0)
    middle = 0.5 * (low + high)
    origin = torch.stack([middle[0], low[1], middle[2]]) if floor else torch.zeros(3)
    scale = 1.0 if size is None else size / float((high - low).max())
    return replace(mesh, vertices=scale * (mesh.vertices - origin))


def _name_targets(tree: dict[str, Any]) -> None:
    """Say of each buffer view of a glTF what it is for, which trimesh leaves open."""
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            for place in primitive["attributes"].values():
                tree["bufferViews"][tree["accessors"][place]["bufferView"]]["target"] = ARRAY_BUFFER
            tree["bufferViews"][tree["accessors"][primitive["indices"]]["bufferView"]]["target"] = ELEMENT_ARRAY_BUFFER


def _to_trimesh(mesh: BakedMesh) -> Any:
    """Convert a mesh to trimesh's, with a matt material: glTF's default is metal, and dark."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.material import PBRMaterial

    geometry = trimesh.Trimesh(
        vertices=_as_array(mesh.vertices), faces=_as_array(mesh.faces), vertex_normals=_as_array(mesh.normals),
        process=False,
    )  # fmt: skip
    material = PBRMaterial(
        name="model", metallicFactor=0.0, roughnessFactor=1.0, baseColorTexture=_as_png(mesh.texture)
    )
    geometry.visual = TextureVisuals(uv=_as_array(mesh.uv), material=material)
    return geometry


def _as_array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _as_png(texture: Float[Tensor, "H W 3"]) -> Image.Image:
    """Convert a texture to an image in PNG's format, which both files embed without loss."""
    return Image.open(BytesIO(encode_image(texture)))
