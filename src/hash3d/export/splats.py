"""Write Gaussians in the files that viewers of splats read: PLY, .splat, and glTF with KHR_gaussian_splatting."""

import json
import struct
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.files import check_suffix, write_bytes
from hash3d.representations.gaussians import SH_DEGREE_0, Gaussians, GaussianTensors, Splats

from .points import to_file_axes, write_ply

EXTENSION = "KHR_gaussian_splatting"
NONE_LEFT = "Expected Gaussians to write, but there are none. Train longer."
FLOAT, ARRAY_BUFFER, POINTS, TYPES = 5126, 34962, 0, {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
"""Numbers and names of glTF, the last by columns."""


def write_splats(path: Path, gaussians: Gaussians) -> Path:
    """Write .ply, .splat or .glb, as the name says. Returns `path`; raises `ValueError` for another name."""
    return {".splat": write_splat, ".glb": write_splat_glb}.get(path.suffix.lower(), write_ply)(path, gaussians)


def write_splat(path: Path, gaussians: Splats) -> Path:
    """Write `encode_splat` to a file. `ValueError`: it does not end in .splat, or there is no finite row."""
    path, encoded = check_suffix(path, ".splat"), encode_splat(gaussians)
    if not encoded:
        raise ValueError(NONE_LEFT)
    write_bytes(path, encoded)
    return path


def encode_splat(gaussians: Splats) -> bytes:
    """Return the finite rows as antimatter15's viewer has them: 32 bytes each, the largest first, axes as in a PLY.

    Position and scale in float32, then in 8 bits RGB, opacity, and the rotation (w, x, y, z) with 128 for 0.
    """
    splats = finite(gaussians)
    means, quats = to_file_axes(splats.means, torch.nn.functional.normalize(splats.quats, dim=-1))
    table = np.empty(len(splats), [("means", "<f4", 3), ("scales", "<f4", 3), ("colors", "u1", 4), ("quats", "u1", 4)])
    table["means"], table["scales"] = means.numpy(), splats.scales.numpy()
    table["colors"] = (_rgba(splats) * 255.0).round().numpy()
    table["quats"] = (quats * 128.0 + 128.0).round().clamp(0.0, 255.0).numpy()
    order = (splats.scales.prod(dim=-1) * splats.opacities).argsort(descending=True)
    return table[order.numpy()].tobytes()


def write_splat_glb(path: Path, gaussians: Splats) -> Path:
    """Write the finite rows as binary glTF 2.0, +y up, with the extension KHR_gaussian_splatting.

    Programs without it show coloured points. Scales are in scene units, as PlayCanvas and Babylon.js read them.
    Raises `ValueError` if there is no finite row.
    """
    path, splats = check_suffix(path, ".glb"), finite(gaussians)
    if not len(splats):
        raise ValueError(NONE_LEFT)
    columns = {
        "POSITION": splats.means,
        "COLOR_0": _rgba(splats),
        f"{EXTENSION}:ROTATION": torch.nn.functional.normalize(splats.quats, dim=-1)[:, [1, 2, 3, 0]],
        f"{EXTENSION}:SCALE": splats.scales,
        f"{EXTENSION}:OPACITY": splats.opacities[:, None],
        f"{EXTENSION}:SH_DEGREE_0_COEF_0": (splats.colors - 0.5) / SH_DEGREE_0,
    }
    blocks = [each.numpy().astype("<f4").tobytes() for each in columns.values()]
    starts = np.cumsum([0, *map(len, blocks)]).tolist()
    accessors: list[dict[str, object]] = [
        {"bufferView": number, "componentType": FLOAT, "count": len(each), "type": TYPES[each.shape[-1]]}
        for number, each in enumerate(columns.values())
    ]
    accessors[0] |= {"min": splats.means.amin(dim=0).tolist(), "max": splats.means.amax(dim=0).tolist()}
    primitive = {
        "attributes": {name: number for number, name in enumerate(columns)},
        "mode": POINTS,
        "extensions": {EXTENSION: {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}},
    }
    described = {
        "asset": {"version": "2.0", "generator": "hash3d"},
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": len(block), "target": ARRAY_BUFFER}
            for start, block in zip(starts, blocks, strict=False)
        ],
        "buffers": [{"byteLength": starts[-1]}],
    }
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 4)
    head = struct.pack("<4sIII4s", b"glTF", 2, 28 + len(text) + starts[-1], len(text), b"JSON")
    write_bytes(path, b"".join([head, text, struct.pack("<I4s", starts[-1], b"BIN\0"), *blocks]))
    return path


def finite(gaussians: Splats) -> GaussianTensors:
    """Return the rows without a number that is not finite, activated, on the CPU."""
    splats = gaussians.gaussians()
    columns = {each.name: getattr(splats, each.name).detach().cpu() for each in fields(splats)}
    kept = torch.stack([each.reshape(len(splats), -1).isfinite().all(dim=-1) for each in columns.values()]).all(dim=0)
    return GaussianTensors(**{name: each[kept] for name, each in columns.items()})


def _rgba(splats: GaussianTensors) -> Float[Tensor, "N 4"]:
    return torch.cat([splats.colors.clamp(max=1.0), splats.opacities[:, None]], dim=-1)
