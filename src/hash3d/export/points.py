"""Write and read Gaussians as PLY files that viewers read.

They are little-endian binary with one float32 for each property, the raw parameters: opacities before the sigmoid,
scales before the exponential, rotations (w, x, y, z), colours as spherical harmonics of degree 0.

Axes: splat files have +y down, as the cameras of Kerbl et al. (2023), and viewers turn them upright. So the world of
`hash3d.cameras` (+y up) is turned by 180 degrees around z when it is written, and back when it is read.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.files import check_suffix, write_bytes
from hash3d.representations.gaussians import HALF_TURN, Gaussians

_COLUMNS = {
    "means": ("x", "y", "z"),
    "sh0": ("f_dc_0", "f_dc_1", "f_dc_2"),
    "opacity_logits": ("opacity",),
    "log_scales": ("scale_0", "scale_1", "scale_2"),
    "quats": ("rot_0", "rot_1", "rot_2", "rot_3"),
}
_NEEDED = tuple(name for names in _COLUMNS.values() for name in names)
_HEAD = "ply\nformat binary_little_endian 1.0\n"
PROPERTIES = (*_NEEDED[:3], "nx", "ny", "nz", *_NEEDED[3:])
"""In order: Kerbl et al. (2023), scene/gaussian_model.py `save_ply`; the normals are unused, here zero."""
LONGEST_HEADER = 2**16
"""Bytes in which the header of a PLY file must end."""


def write_ply(path: Path, gaussians: Gaussians) -> Path:
    """Write the finite rows (as gsplat does). Returns `path`; raises `ValueError` if it does not end in .ply."""
    path = check_suffix(path, ".ply")
    raw = {name: getattr(gaussians, name).detach().cpu() for name in _COLUMNS}
    raw["means"], raw["quats"] = to_file_axes(raw["means"], raw["quats"])
    parameters = [raw[name].reshape(len(gaussians), len(_COLUMNS[name])) for name in _COLUMNS]
    columns = dict(zip(_NEEDED, torch.cat(parameters, dim=1).T.numpy(), strict=True))
    unused = np.zeros(len(gaussians))
    table = np.stack([columns.get(name, unused) for name in PROPERTIES], axis=-1).astype("<f4")
    table = table[np.isfinite(table).all(axis=-1)]
    properties = "".join(f"property float {name}\n" for name in PROPERTIES)
    header = f"{_HEAD}element vertex {len(table)}\n{properties}end_header\n"
    write_bytes(path, header.encode("ascii") + table.tobytes())
    return path


def read_ply(path: Path) -> dict[str, Tensor]:
    """Read the raw parameters in float32 by `Gaussians`' names. Raises `ValueError` if some lack or are not finite."""
    with Path(path).open("rb") as file:
        head, mark, _ = file.read(LONGEST_HEADER).partition(b"end_header\n")
    lines = head.decode("ascii", errors="replace").split("\n")
    plain = "\n".join(line for line in lines if not line.startswith(("comment", "obj_info")))
    layout = re.fullmatch(rf"{_HEAD}element vertex (\d{{1,12}})\n((?:property float \S+\n)+)", plain)
    if not mark or not plain.startswith(_HEAD):
        raise ValueError(f"Expected a little-endian binary PLY file, but {path} is not one.")
    names = re.findall(r"float (\S+)", layout[2]) if layout else []
    missing = [name for name in _NEEDED if name not in names]
    if not layout or missing:
        what = missing if layout else "this layout"
        raise ValueError(f"Expected a PLY file of Gaussians in float32, but {path} lacks {what}.")
    count = int(layout[1])
    begin, size = len(head) + len(mark), 4 * count * len(names)
    if (got := Path(path).stat().st_size - begin) != size:  # Before so many bytes are read.
        raise ValueError(f"Expected {size} bytes of Gaussians in {path}, but got {got}.")
    table = torch.from_numpy(np.fromfile(path, "<f4", offset=begin).astype(np.float32).reshape(count, len(names)))
    found = {parameter: table[:, [names.index(name) for name in _COLUMNS[parameter]]] for parameter in _COLUMNS}
    if not all(values.isfinite().all() for values in found.values()):
        raise ValueError(f"Expected finite Gaussians in {path}, but some are not. Write the file again.")
    if any(name.startswith("f_rest") for name in names):
        warnings.warn(f"Colours of {path} that depend on the direction (f_rest) are left out.", stacklevel=2)
    # Twice the half turn is -1, the same rotation.
    means, quats = to_file_axes(found["means"], -found["quats"])
    return found | {"means": means, "quats": quats, "opacity_logits": found["opacity_logits"][:, 0]}


def to_file_axes(
    means: Float[Tensor, "N 3"], quats: Float[Tensor, "N 4"]
) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 4"]]:
    """Turn positions and rotations (w, x, y, z) by 180 degrees around z: by the quaternion k from the left."""
    signs = means.new_tensor(HALF_TURN)
    return means * signs, quats.flip(-1) * torch.cat([signs, signs[2:]])
