"""Triangle meshes, and the files that other programs open: GLB, and OBJ with MTL and PNG.

Axes: the world of `hash3d.cameras` (right-handed, +y up, front +z, one unit a scene unit) is that of glTF and the usual
one of OBJ, so positions are written as they are.
Colours are sRGB, as rendered and as pictures hold them. glTF reads textures as sRGB but vertex colours as linear
(glTF 2.0 specification, materials and meshes), so those are converted.
"""

import re
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor

from hash3d.files import check_suffix, write_bytes
from hash3d.representations.mesh import Mesh

from .turntable import to_bytes


@dataclass(frozen=True, kw_only=True)
class BakedMesh:
    """A mesh with its texture, cut open along the seams: a vertex on a seam is there once for each side."""

    vertices: Float[Tensor, "V 3"]
    """Positions in scene units."""
    faces: Int[Tensor, "F 3"]
    """Indices of vertices, counter-clockwise seen from outside."""
    normals: Float[Tensor, "V 3"]
    """Unit normals of the mesh before it was cut, so that no seam shows in the light."""
    uv: Float[Tensor, "V 2"]
    """Texture coordinates in [0, 1]: u to the right, v up, (0, 0) at the texture's lower left corner."""
    texture: Float[Tensor, "H W 3"]
    """RGB in [0, 1], the first row on top."""


def write_glb(path: Path, mesh: Mesh | BakedMesh) -> Path:
    """Write binary glTF 2.0 to `path`, whole or not at all, and return `path`.

    Raises:
        ValueError: `path` does not end in .glb.
    """
    path = check_suffix(path, ".glb")
    content = _to_trimesh(mesh, linear_colors=True).export(file_type="glb", include_normals=True)
    write_bytes(path, content)
    return path


def write_obj(path: Path, mesh: Mesh | BakedMesh) -> Path:
    """Write a Wavefront OBJ to `path` and return `path`; a texture goes to an MTL and a PNG of the same name beside it.

    Each file is written whole or not at all, the OBJ last, so it never names a file that is not there. The names of the
    MTL and the PNG have underscores for spaces, which end a name for many readers. Vertex colours follow the
    positions, as most programs read them.

    Raises:
        ValueError: `path` does not end in .obj.
    """
    from trimesh.exchange.obj import export_obj
    from trimesh.visual.material import SimpleMaterial

    path = check_suffix(path, ".obj")
    name = re.sub(r"\s", "_", path.stem)
    geometry = _to_trimesh(mesh, linear_colors=False)
    if isinstance(mesh, BakedMesh):  # MTL multiplies the texture by Kd.
        white, black = [255, 255, 255, 255], [0, 0, 0, 255]
        geometry.visual.material = SimpleMaterial(
            image=_as_png(mesh.texture), diffuse=white, ambient=white, specular=black, name=name
        )
    text, others = export_obj(geometry, include_normals=True, return_texture=True, mtl_name=f"{name}.mtl", header=None)
    for name, content in others.items():
        write_bytes(path.with_name(name), content)
    write_bytes(path, text.encode())
    return path


def _to_trimesh(mesh: Mesh | BakedMesh, *, linear_colors: bool) -> Any:
    """Return the mesh for trimesh, with a matt material: by default glTF's is metal, and dark."""
    import trimesh
    from trimesh.visual import TextureVisuals
    from trimesh.visual.color import srgb_to_linear
    from trimesh.visual.material import PBRMaterial

    normals = mesh.normals if isinstance(mesh, BakedMesh) else mesh.vertex_normals
    geometry = trimesh.Trimesh(
        vertices=_as_array(mesh.vertices), faces=_as_array(mesh.faces), vertex_normals=_as_array(normals), process=False
    )
    material = PBRMaterial(name="model", metallicFactor=0.0, roughnessFactor=1.0)
    if isinstance(mesh, BakedMesh):
        material.baseColorTexture = _as_png(mesh.texture)
        geometry.visual = TextureVisuals(uv=_as_array(mesh.uv), material=material)
    elif linear_colors:
        geometry.visual = TextureVisuals(material=material)
        if mesh.colors is not None:
            geometry.visual.vertex_attributes["color"] = _as_rgba(srgb_to_linear(_as_array(mesh.colors.double())))
    elif mesh.colors is not None:
        geometry.visual.vertex_colors = _as_rgba(_as_array(mesh.colors))
    return geometry


def _as_array(tensor: Tensor) -> Any:
    return tensor.detach().cpu().numpy()


def _as_rgba(colors: Float[np.ndarray, "V 3"]) -> UInt8[np.ndarray, "V 4"]:
    """Opaque 8-bit colours."""
    opaque = np.concatenate([colors, np.ones((len(colors), 1))], axis=-1)
    return (opaque.clip(0.0, 1.0) * 255.0).round().astype(np.uint8)


def _as_png(texture: Float[Tensor, "H W 3"]) -> Image.Image:
    """The picture in PNG's format, which both files embed without loss."""
    file = BytesIO()
    Image.fromarray(to_bytes(texture)).save(file, format="PNG")
    return Image.open(file)
