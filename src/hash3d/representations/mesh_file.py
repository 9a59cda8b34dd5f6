"""Read a mesh in any format that trimesh reads: the triangles of all its parts, and the colours of points on them.

Vertices are turned into the world of `hash3d.cameras` (+y up, front +z) and stay in float64: a file in map coordinates
keeps its shape. Colours are sRGB.
"""

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from .gaussians import SH_DEGREE_0
from .gltf import check_gltf

Up = Literal["y", "z"]
"""The axis that points up in a file: "y" as in glTF (front +z), "z" as in Blender and Shap-E (front -y)."""
GREY = 0.5
"""RGB of what has no colour."""
PLY_COLORS = (
    ("f_dc_0", "f_dc_1", "f_dc_2"), ("red", "green", "blue"), ("diffuse_red", "diffuse_green", "diffuse_blue"),
    ("r", "g", "b"),
)  # fmt: skip
"""Properties of a PLY's vertices that are a colour."""
MOST_TINT = 12
"""Of 255: how far the channels of a Kd may be apart that is no tint, but the grey that Blender writes beside images."""
COARSEST_STEP = 1e-3
"""Warn where the file's numbers are farther apart than this share of the shape's size."""


@dataclass(frozen=True, kw_only=True)
class MeshFile:
    """The triangles of a file, part after part, with what colours them."""

    vertices: Float[Tensor, "V 3"]
    """In the file's units, float64."""
    normals: Float[Tensor, "V 3"]
    """Unit normals: the file's, or else means of the faces around a vertex."""
    faces: Int[Tensor, "F 3"]
    parts: tuple[Any, ...]
    """trimesh's meshes."""
    linear: bool
    """Whether colours but a texture's are linear, as glTF has them."""

    def colors(self, faces: Int[Tensor, " N"], weights: Float[Tensor, "N 3"]) -> Float[Tensor, "N 3"]:
        """RGB in [0, 1] at barycentric `weights` in `faces`: by texture, vertices or faces, or else grey."""
        rows, shares = faces.cpu().numpy(), weights.detach().cpu().double().numpy()
        colors, first = np.empty((len(rows), 3)), 0
        for part in self.parts:
            chosen = np.flatnonzero((rows >= first) & (rows < first + len(part.faces)))
            if len(chosen):
                local = rows[chosen] - first
                colors[chosen] = _color(part, shares[chosen], local, self.linear)
            first += len(part.faces)
        return torch.from_numpy(colors).float()


def read_mesh(file: Path, up: Up = "y") -> MeshFile:
    """Read a mesh file.

    `ValueError`: the file does not read, or its mesh has no faces or vertices that are not finite.
    """
    with naming(file):
        scene = read_scene(file)
        if not has_faces(scene):
            raise ValueError(f"Expected {file} to hold a mesh, but it has no faces. Pass points as a PLY file.")
        is_gltf = file.suffix.lower() in (".glb", ".gltf")
        if is_gltf:
            check_gltf(file, scene)
        elif file.suffix.lower() == ".obj":
            _check_obj(file, scene)
        for geometry in scene.geometry.values():
            _keep_colors(geometry)
        parts = tuple(part for part in scene.dump() if len(getattr(part, "faces", ())))
        starts = np.cumsum([0, *(len(part.vertices) for part in parts)])
        vertices = np.concatenate([part.vertices for part in parts])
        expect_finite(vertices, file)
        if any(part.visual.kind is None for part in parts):
            tell_grey(file)
        return MeshFile(
            vertices=to_world(vertices, up),
            normals=to_world(np.concatenate([part.vertex_normals for part in parts]), up),
            faces=torch.from_numpy(np.concatenate([p.faces + n for p, n in zip(parts, starts[:-1], strict=True)])),
            parts=parts,
            linear=is_gltf,
        )


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turn an error of reading a file, also of a part read at its first use, into a `ValueError` that names it."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ValueError) and str(file) in str(error):
            raise
        raise ValueError(
            f"Expected {file} to be a PLY of points or a mesh, but it does not read ({error}). Export it again."
        ) from error


def read_scene(file: Path) -> Any:
    """Read a file of points or a mesh as a trimesh scene."""
    import trimesh

    if not file.is_file():
        raise ValueError(f"Expected a file of points or a mesh, but there is no file {file}. Check the path.")
    with naming(file):
        scene = trimesh.load_scene(file, process=False)
        for part in scene.geometry.values():
            faces: Any = getattr(part, "faces", ())
            if len(faces) and not 0 <= faces.min() <= faces.max() < len(part.vertices):
                raise ValueError("a face names a vertex that is not there")
    return scene


def has_faces(scene: Any) -> bool:
    """Whether any part of a trimesh scene is a mesh."""
    return any(len(getattr(geometry, "faces", ())) for geometry in scene.geometry.values())


def expect_finite(points: Any, file: Path) -> None:
    """Refuse a file without points or with NaN or infinite ones; warn if its numbers are too coarse for its shape."""
    bad = int((~np.isfinite(points).all(axis=-1)).sum())
    if not len(points) or bad:
        what = f"{bad} of its {len(points)} are not finite" if len(points) else "it has none"
        raise ValueError(f"Expected {file} to hold points, but {what}. Export it again.")
    with np.errstate(over="ignore"):
        exact = bool((points == points.astype(np.float32)).all())
    step = np.abs(points).max() * np.finfo(np.float32 if exact else np.float64).eps
    size = np.ptp(points, axis=0).max()
    if step > COARSEST_STEP * size > 0.0:
        warnings.warn(
            f"The positions in {file} are rounded to about {step:.2g}, for a shape of size {size:.2g}: it lies too far "
            f"from the origin. Move it to the origin before exporting it, or export it in double precision.",
            stacklevel=3,
        )


def linear_to_srgb(linear: Any) -> Any:
    """Encode linear RGB as sRGB, both in [0, 1] (IEC 61966-2-1)."""
    from trimesh.visual import color

    return color.linear_to_srgb(np.asarray(linear, dtype=np.float64).clip(0.0, 1.0))


def to_world(points: Any, up: Up) -> Float[Tensor, "N 3"]:
    """Turn a file's positions into our world, in their dtype: z up and front -y become y up and front +z."""
    x, y, z = torch.as_tensor(np.asarray(points)).unbind(-1)
    return torch.stack([x, z, -y] if up == "z" else [x, y, z], dim=-1)


def tell_grey(file: Path) -> None:
    """Say that a file, or a part of it, has no colours."""
    warnings.warn(f"{file}, or a part of it, has no colours that can be read: it is grey.", stacklevel=3)


def ply_fields(geometry: Any) -> tuple[Any, Sequence[str]]:
    """Return what trimesh has read of a PLY's vertices besides their places, and its names."""
    raw = geometry.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    return raw, raw.dtype.names or () if isinstance(raw, np.ndarray) else tuple(raw or ())


def ply_colors(geometry: Any) -> Any:
    """Return the RGB "V 3" in [0, 1] of a PLY's vertices: of Gaussians (f_dc), or of any number type; None without."""
    raw, fields = ply_fields(geometry)
    for names in PLY_COLORS:
        if set(names) <= set(fields):
            given = np.stack([np.ravel(raw[name]) for name in names], axis=-1)
            colors = given.astype(np.float64)
            if not np.isfinite(colors).all():
                raise ValueError("some of its colours are not finite")
            if names[0] == "f_dc_0":
                colors = 0.5 + SH_DEGREE_0 * colors
            elif given.dtype.kind in "iu":
                colors /= np.iinfo(given.dtype).max
            elif len(colors) and colors.max() > 1.0:
                colors /= 255.0
            return colors.clip(0.0, 1.0)
    return None


def _check_obj(file: Path, scene: Any) -> None:
    """Refuse what trimesh would read wrongly, tint textures, and tell which materials and textures are not there."""
    from PIL import Image, ImageChops

    content = file.read_text(encoding="utf-8", errors="replace")
    if content.startswith("\ufeffv"):
        raise ValueError(f"Expected no byte order mark before the first vertex of {file}. Save it as plain UTF-8.")
    if re.search(r"^\s*f\b.*(\s-\d|\\\s*$)", content, re.MULTILINE):
        what = "to count vertices from the first, each in one line, but some do not"
        raise ValueError(f"Expected faces of {file} {what}. Export it again.")
    colored = [line.split()[3:] for line in re.findall(r"^v((?:[ \t]+[\d.eE+-]+){6})[ \t]*$", content, re.MULTILINE)]
    if colored and np.asarray(colored, dtype=np.float64).max() > 1.0:
        raise ValueError(f"Expected vertex colours of {file} in 0 to 1, but some are larger. Export it again.")
    libraries = [file.parent / name for name in re.findall(r"^\s*mtllib\s+(.*\S)", content, re.MULTILINE)]
    read = "".join(path.read_text(errors="replace") + "\n" for path in libraries if path.is_file())
    blocks = dict(re.findall(r"^\s*newmtl[ \t]+(.*\S)\s*$([\s\S]*?)(?=^\s*newmtl|\Z)", read, re.MULTILINE))
    lost = set(re.findall(r"^\s*usemtl[ \t]+(.*\S)", content, re.MULTILINE)) - set(blocks)
    for part in scene.geometry.values():
        material: Any = getattr(part.visual, "material", None)
        if _texture(material) is not None and np.ptp(tint := material.main_color[:3]) > MOST_TINT:
            picture = material.image.convert("RGB")  # MTL multiplies the texture by Kd.
            material.image = ImageChops.multiply(picture, Image.new("RGB", picture.size, tuple(tint)))
        if "map_Kd" in blocks.get(getattr(material, "name", None), "") and _texture(material) is None:
            lost.add(material.name)
    if lost:
        names = ", ".join(sorted(lost))
        warnings.warn(f"Materials of {file}, or their textures, were not found: {names}. They are plain.", stacklevel=4)


def _keep_colors(geometry: Any) -> None:
    """Keep what trimesh loses: a PLY's colours, and of glTF (linear) a texture's factor and that of vertex colours."""
    from PIL import Image
    from trimesh.visual import ColorVisuals
    from trimesh.visual.color import srgb_to_linear, to_rgba

    if geometry.visual.kind in (None, "vertex") and (given := ply_colors(geometry)) is not None:
        geometry.visual = ColorVisuals(geometry, vertex_colors=given)

    material: Any = getattr(geometry.visual, "material", None)
    texture, factor = (getattr(material, name, None) for name in ("baseColorTexture", "baseColorFactor"))
    if texture is not None and factor is not None:
        linear = srgb_to_linear(np.asarray(texture.convert("RGB")) / 255.0) * factor[:3] / 255.0
        material.baseColorTexture = Image.fromarray((255.0 * linear_to_srgb(linear)).round().astype(np.uint8))
        material.baseColorFactor = None
    colors = getattr(geometry.visual, "vertex_attributes", {}).get("color")
    if colors is not None and colors.dtype == np.uint16:
        colors = colors / 65535.0
    if colors is not None and geometry.visual.uv is None:
        tint = to_rgba(colors) / 255.0 * (1.0 if factor is None else np.asarray(factor) / 255.0)
        geometry.visual = ColorVisuals(geometry, vertex_colors=tint)
    elif colors is not None:
        geometry.metadata["tint"] = to_rgba(colors)[:, :3] / 255.0


def _color(part: Any, weights: Any, faces: Any, linear: bool) -> Any:
    """Return the RGB "N 3" at points of the faces of one part."""
    from trimesh.visual.color import srgb_to_linear, uv_to_interpolated_color

    visual, corners, tint = part.visual, part.faces[faces], part.metadata.get("tint")
    if visual.kind == "texture" and visual.uv is not None and _texture(visual.material) is not None:
        uv = np.einsum("nk,nkc->nc", weights, visual.uv[corners])
        colors = uv_to_interpolated_color(uv, _texture(visual.material))[:, :3] / 255.0
        if tint is None:
            return colors
        colors = srgb_to_linear(colors)
    elif visual.kind == "vertex":
        colors = np.einsum("nk,nkc->nc", weights, visual.vertex_colors[corners][..., :3] / 255.0)
    elif visual.kind == "face":
        colors = visual.face_colors[faces][:, :3] / 255.0
    elif visual.kind == "texture":
        colors = np.broadcast_to(visual.material.main_color[:3] / 255.0, (len(faces), 3))
    else:
        return np.full((len(faces), 3), GREY)
    if tint is not None:
        colors = colors * np.einsum("nk,nkc->nc", weights, tint[corners])
    return linear_to_srgb(colors) if linear else colors


def _texture(material: Any) -> Any:
    """Return the image of a trimesh material, or None."""
    return getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
