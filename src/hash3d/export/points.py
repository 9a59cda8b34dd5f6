"""Write and read Gaussians as PLY files, in the two layouts that viewers read.

Both are little-endian binary with one float32 for each property, the raw parameters: opacities before the sigmoid,
scales before the exponential, rotations (w, x, y, z), colours as spherical harmonics of degree 0.
"""

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hash3d.files import check_suffix, write_bytes
from hash3d.representations.gaussians import PARAMETER_NAMES, Gaussians

PlyLayout = Literal["inria", "gsplat"]

_COLUMNS = {
    "means": ("x", "y", "z"),
    "sh0": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity_logits": ("opacity",),
    "log_scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}
_GSPLAT = tuple(name for names in _COLUMNS.values() for name in names)
LAYOUTS: dict[PlyLayout, tuple[str, ...]] = {"inria": (*_GSPLAT[:3], "nx", "ny", "nz", *_GSPLAT[3:]), "gsplat": _GSPLAT}
"""Properties in order: Kerbl et al. (2023), scene/gaussian_model.py `save_ply` (with unused normals, here zero), and
gsplat 1.5.3, exporter.py `splat2ply_bytes`. Neither has f_rest properties at degree 0."""


def write_ply(path: Path, gaussians: Gaussians, layout: PlyLayout = "inria") -> Path:
    """Write a PLY file, whole or not at all, without the rows that are not finite (as gsplat does). Returns `path`.

    Raises:
        ValueError: `path` does not end in .ply.
    """
    names = LAYOUTS[layout]
    columns = {name: np.zeros(len(gaussians), dtype="<f4") for name in names}
    for parameter in PARAMETER_NAMES:
        values = getattr(gaussians, parameter).detach().cpu().numpy().reshape(len(gaussians), len(_COLUMNS[parameter]))
        columns |= dict(zip(_COLUMNS[parameter], values.astype("<f4").T, strict=True))
    table = np.stack([columns[name] for name in names], axis=-1)
    table = table[np.isfinite(table).all(axis=-1)]
    properties = "".join(f"property float {name}\n" for name in names)
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(table)}\n{properties}end_header\n"
    path = check_suffix(path, ".ply")
    write_bytes(path, header.encode("ascii") + np.ascontiguousarray(table).tobytes())
    return path


def read_ply(path: Path) -> dict[str, Tensor]:
    """Read the raw parameters in float32 from a file of either layout, by the names of `Gaussians`' parameters.

    Raises:
        ValueError: the file is no PLY of Gaussians, or has another length than its header says.
    """
    content = Path(path).read_bytes()
    head, mark, body = content.partition(b"end_header\n")
    lines = head.decode("ascii", errors="replace").split("\n")
    if not mark or lines[:2] != ["ply", "format binary_little_endian 1.0"]:
        raise ValueError(f"Expected a little-endian binary PLY file, but {path} is not one.")
    table = _read_table(lines, body, path)
    found = {
        parameter: torch.from_numpy(np.stack([table[name] for name in names], axis=-1))
        for parameter, names in _COLUMNS.items()
    }
    return found | {"opacity_logits": found["opacity_logits"][:, 0]}


def _read_table(lines: list[str], body: bytes, path: Path) -> dict[str, NDArray[np.float32]]:
    """Read the columns, by property name, of a file whose only element is "vertex", with float32 properties alone."""
    words = [line.split() for line in lines[2:] if line and not line.startswith(("comment", "obj_info"))]
    elements = [word for word in words if word[0] == "element"]
    properties = [word for word in words if word[0] == "property"]
    plain = len(elements) == 1 and elements[0][1] == "vertex" and all(word[1] == "float" for word in properties)
    names = [word[-1] for word in properties]
    missing = [name for name in LAYOUTS["gsplat"] if name not in names]
    if not plain or missing:
        raise ValueError(f"Expected a PLY file of Gaussians in float32, but {path} lacks {missing or 'this layout'}.")
    count = int(elements[0][2])
    if len(body) != 4 * count * len(names):
        raise ValueError(f"Expected {4 * count * len(names)} bytes of Gaussians in {path}, but got {len(body)}.")
    table = np.frombuffer(body, dtype="<f4").reshape(count, len(names))
    return {name: table[:, column].astype(np.float32) for column, name in enumerate(names)}
