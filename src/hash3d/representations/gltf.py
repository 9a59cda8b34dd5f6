"""What is not read of a glTF file: refused where the shape would be another one, told where the colours would."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np

REFUSED = (
    "KHR_draco_mesh_compression", "EXT_meshopt_compression", "KHR_texture_basisu", "EXT_mesh_gpu_instancing",
)  # fmt: skip
"""Names in a file whose mesh does not read, or is another one."""
HARMLESS = ("KHR_materials_", "KHR_texture_", "KHR_lights_", "KHR_mesh_quantization")
"""Beginnings of extensions without which a file may be read though it requires them."""
UNHEEDED = ("KHR_texture_transform", "KHR_materials_pbrSpecularGlossiness", "emissiveTexture")
"""Names in a file whose colours are others."""
REPEAT = 10497
"""How textures are read beyond their borders."""


def check_gltf(file: Path, scene: Any) -> None:
    """Refuse a .glb or .gltf whose shape would be read wrongly (`ValueError`), and warn of what colours it otherwise.

    `scene`: what trimesh has read of it.
    """
    document = json.loads(text := _read_text(file))
    found = [name for name in REFUSED if f'"{name}"' in text]
    found += [name for name in document.get("extensionsRequired", []) if not name.startswith(HARMLESS)]
    meshes = document.get("meshes", [])
    primitives = [each for mesh in meshes for each in mesh["primitives"]]
    named = [item for each in primitives for item in each["attributes"].items()]
    accessors = document.get("accessors", [])
    whole = [accessors[number] for name, number in named if name.startswith(("POSITION", "NORMAL", "TEXCOORD"))]
    found += ["sparse accessors"] * any("sparse" in each for each in accessors)
    found += ["normalized integers for positions or coordinates"] * any(each.get("normalized") for each in whole)
    bare = [each["attributes"].get("COLOR_0") for each in primitives if "material" not in each]
    short = any(number is not None and accessors[number]["componentType"] == 5123 for number in bare)
    found += ["vertex colours of 16 bits and no material"] * short
    found += ["weights of morph targets"] * any(map(any, (each.get("weights", []) for each in meshes)))
    if found:
        raise ValueError(f"Expected {file} without {found[0]}, which is not read. Export it without.")
    materials, samplers = document.get("materials", []), document.get("samplers", [])
    bases = [each.get("pbrMetallicRoughness", {}).get("baseColorTexture", {}) for each in materials]
    placed = [uv for part in scene.geometry.values() if (uv := getattr(part.visual, "uv", None)) is not None]
    told = [name for name in UNHEEDED if f'"{name}"' in text]
    told += ["emissiveFactor"] * any(map(any, (each.get("emissiveFactor", []) for each in materials)))
    told += [f"alphaMode {mode}" for mode in {each.get("alphaMode", "OPAQUE") for each in materials} - {"OPAQUE"}]
    told += ["a second set of texture coordinates"] * any(each.get("texCoord", 0) for each in bases)
    if any(np.abs(uv - 0.5).max(initial=0.0) > 0.51 for uv in placed):
        wraps = {each.get(name, REPEAT) for each in samplers for name in ("wrapS", "wrapT")}
        told += ["textures that do not repeat"] * bool(wraps - {REPEAT})
    for name in told:
        warnings.warn(f"{file} uses {name}, which is not heeded: its colours are others.", stacklevel=4)


def _read_text(file: Path) -> str:
    """Read the JSON text: a .gltf file is it, a .glb file holds it after 20 bytes, the last 8 with its length."""
    with file.open("rb") as stream:
        head = stream.read(20)
        size = int.from_bytes(head[12:16], "little") if head[:4] == b"glTF" else -1
        return (stream.read(size) if size >= 0 else head + stream.read()).decode("utf-8", errors="replace")
