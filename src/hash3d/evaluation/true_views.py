"""Render true views of a mesh by the usual protocols, as `hash3d.evaluation.truth` reads them."""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from torch.nn import functional

from hash3d.cameras import Cameras
from hash3d.export.turntable import to_bytes
from hash3d.files import write_bytes, write_json
from hash3d.rendering.raster import RasterRendererConfig, render_surface
from hash3d.representations.mesh import Mesh, SurfacePoints
from hash3d.representations.mesh_file import MeshFile

SAMPLES = 3
"""Samples a side of each pixel, which smooth outlines and textures alike."""
RADIUS = 0.5
"""Of the sphere, or half a side of the cube, that an object fills."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Cameras all round an object, its size and its light; azimuths are evenly spaced, from the input's on."""

    input_elevation: float
    """Degrees of the image that a method is given."""
    elevations: tuple[float, ...]
    """Degrees of the views that it is compared with."""
    fit: Literal["sphere", "cube"]
    """What the object fills: the sphere around the middle of its box, or the cube."""
    ambient: float
    """Colour = albedo (ambient + (1 - ambient) |n . v|), v the direction to the eye; without shadows."""
    distance: float = 1.5
    fov_y: float = 49.1
    size: int = 256


PROTOCOLS = {
    "ring16": Protocol(input_elevation=15.0, elevations=(0.0, 30.0) * 8, fit="sphere", ambient=0.6),
    "zero123-gso": Protocol(input_elevation=30.0, elevations=(30.0,) * 16, fit="cube", ambient=1.0),
}
"""ring16: that of our scanned objects. zero123-gso: Zero123's cameras (blender_script.py) fixed at elevation 30 under
an even white light, by which SyncDreamer (b452173, blender_script.py) renders Google Scanned Objects; its input is its
first view."""


@dataclass(frozen=True, kw_only=True)
class LitMesh:
    """A mesh of a file in the unit frame, lit from an eye."""

    file: MeshFile
    geometry: Mesh
    eye: Float[Tensor, " 3"]
    ambient: float

    def mesh(self) -> Mesh:
        """The geometry."""
        return self.geometry

    def colors_at(self, points: SurfacePoints) -> Float[Tensor, "N 3"]:
        """RGB of both sides of the surface."""
        normals = functional.normalize(points.interpolate(self.file.normals.float()), dim=-1)
        towards = functional.normalize(self.eye - points.positions, dim=-1)
        facing = (normals * towards).sum(dim=-1, keepdim=True).abs()
        return self.file.colors(points.faces, points.weights) * (self.ambient + (1.0 - self.ambient) * facing)


def fit_mesh(file: MeshFile, fit: Literal["sphere", "cube"]) -> Mesh:
    """Move the middle of a mesh's box to the origin, and scale what it fills to `RADIUS`."""
    low, high = file.vertices.amin(dim=0), file.vertices.amax(dim=0)
    centred = file.vertices - (0.5 * low + 0.5 * high)
    centred = centred / centred.abs().max()  # The norm's squares neither overflow nor vanish.
    reach = centred.norm(dim=-1).max() if fit == "sphere" else 1.0
    if not bool(torch.isfinite(centred).all()):
        raise ValueError("Expected a mesh with vertices that differ, but all lie at one place. Pass another file.")
    return Mesh(vertices=(RADIUS / reach * centred).float(), faces=file.faces)


def render_view(file: MeshFile, geometry: Mesh, camera: Cameras, ambient: float) -> Float[Tensor, "H W 4"]:
    """Render one camera as RGBA with straight alpha, the mean of `SAMPLES` squared samples a pixel."""
    fine = Cameras.orbit(
        elevation=camera.elevation, azimuth=camera.azimuth, radius=camera.radius, fov_y=camera.fov_y,
        size=SAMPLES * camera.width,
    )  # fmt: skip
    surface = LitMesh(file=file, geometry=geometry, eye=camera.eyes[0], ambient=ambient)
    render = render_surface(surface, fine, torch.zeros(1, 3), config=RasterRendererConfig(antialias=False))
    samples = torch.cat([render.color, render.alpha], dim=-1).permute(0, 3, 1, 2)
    color, alpha = functional.avg_pool2d(samples, SAMPLES)[0].permute(1, 2, 0).split((3, 1), dim=-1)
    return torch.cat([color / alpha.clamp(min=1.0 / SAMPLES**2), alpha], dim=-1)


@torch.no_grad()
def write_views(folder: Path, file: MeshFile, name: str, *, azimuth: float = 0.0, size: int | None = None) -> None:
    """Write input.png, 000.png and on, and last views.json.

    Args:
        folder: where.
        file: the mesh.
        name: of the protocol.
        azimuth: degrees from which the input sees the mesh.
        size: pixels a side; None: the protocol's.
    """
    protocol = PROTOCOLS[name]
    count, size = len(protocol.elevations), size or protocol.size
    cameras = Cameras.orbit(
        elevation=[protocol.input_elevation, *protocol.elevations],
        azimuth=[azimuth, *(azimuth + 360.0 / count * view for view in range(count))],
        radius=protocol.distance, fov_y=protocol.fov_y, size=size,
    )  # fmt: skip
    geometry = fit_mesh(file, protocol.fit)
    views: list[dict[str, Any]] = []
    for index, file_name in enumerate(["input.png", *(f"{view:03}.png" for view in range(count))]):
        image, encoded = render_view(file, geometry, cameras[index], protocol.ambient), BytesIO()
        Image.fromarray(to_bytes(image)).save(encoded, format="PNG")
        write_bytes(folder / file_name, encoded.getvalue())
        angles = {name: float(getattr(cameras, name)[index]) for name in ("elevation", "azimuth")}
        views.append({"file": file_name, **{f"{name}_deg": angle for name, angle in angles.items()}})
    described = {
        "protocol": name, "distance": protocol.distance, "fov_y_deg": protocol.fov_y, "object_radius": RADIUS,
        "size": size, "input": views[0], "views": views[1:],
    }  # fmt: skip
    write_json(folder / "views.json", described)
