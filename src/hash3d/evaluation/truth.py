"""True views of an object, to compare with: a folder of images and a `views.json` with their cameras.

They are read from a folder, or rendered of a mesh by the usual protocols.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from hash3d.cameras import Cameras
from hash3d.export.turntable import encode_image
from hash3d.files import read_json, write_once
from hash3d.pictures import read_rgba
from hash3d.pictures.background import PLAIN_SHARE, PLAIN_TOLERANCE
from hash3d.pictures.loading import straighten
from hash3d.rendering.raster import RasterRendererConfig, render_surface
from hash3d.representations.mesh import Mesh, Surface, SurfacePoints
from hash3d.representations.mesh_file import MeshFile

SHARED = ("distance", "fov_y_deg", "size")
"""Fields of views.json that all views share."""
LARGEST_SIDE = 8192
"""Pixels a side of the largest true view."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """N true views and the cameras that saw them."""

    cameras: Cameras
    images: Float[Tensor, "N H W 3"]
    """In [0, 1]: on white, or as it is if a view has no alpha channel."""
    alpha: Float[Tensor, "N H W 1"]
    has_alpha: tuple[bool, ...]
    """Whether any pixel of a view is transparent: else its silhouette is unknown."""
    backgrounds: Float[Tensor, "N 3"]
    """The colour behind the object: white, or an opaque view's plain border."""
    notes: tuple[str, ...] = ()
    """What the views do not tell, in a sentence each."""
    reference_elevation: float
    """Degrees of the image that a method is given. Azimuths count from it."""


def load_truth(folder: Path) -> Truth:
    """Read `views.json` and the images it names.

    The file holds `size` in pixels, `distance`, `fov_y_deg`, `input` and `views`; a view has `file`, `elevation_deg`
    and `azimuth_deg`.

    Raises:
        ValueError: something is missing or malformed, in one sentence.
    """
    described = read_json(folder / "views.json")
    try:
        size, views = int(described["size"]), list(described["views"])
        cameras = Cameras.orbit(
            elevation=[float(view["elevation_deg"]) for view in views],
            azimuth=[float(view["azimuth_deg"]) - float(described["input"]["azimuth_deg"]) for view in views],
            radius=float(described["distance"]),
            fov_y=float(described["fov_y_deg"]),
            size=size,
        )
        reference_elevation = float(described["input"]["elevation_deg"])
        files = [folder / view["file"] for view in views]
        if any(view[name] != described[name] for view in views for name in SHARED if name in view):
            raise ValueError(f"the views have {' or '.join(SHARED)} of their own, and one for all is read")
        _check_ranges(cameras)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        fault = f"it lacks {error}" if isinstance(error, KeyError) else f"a value is none of the kind ({error})"
        raise ValueError(
            f"Expected {folder / 'views.json'} to describe cameras, but {fault}. "
            f"See the documentation of evaluate for its fields."
        ) from error
    if not files:
        raise ValueError(f"Expected {folder / 'views.json'} to name at least one view, but it names none.")
    rgba = torch.stack([_read_view(path, size) for path in files])
    alpha = rgba[..., 3:]
    has_alpha = tuple(bool((each < 1.0).any()) for each in alpha)
    colors = [None if known else plain_border(view[..., :3]) for known, view in zip(has_alpha, rgba, strict=True)]
    white = torch.ones(3)
    return Truth(
        cameras=cameras,
        images=rgba[..., :3] * alpha + (1.0 - alpha),
        alpha=alpha,
        has_alpha=has_alpha,
        backgrounds=torch.stack([white if color is None else color for color in colors]),
        notes=describe_opaque(has_alpha, [color is not None for color in colors]) + describe_angles(cameras),
        reference_elevation=reference_elevation,
    )


def plain_border(image: Float[Tensor, "H W 3"]) -> Float[Tensor, " 3"] | None:
    """Return the median colour of the outermost pixels if they are alike, as for an input image; else None."""
    border = torch.cat([image[0], image[-1], image[1:-1, 0], image[1:-1, -1]])
    color = border.quantile(0.5, dim=0)
    spread = (border - color).abs().amax(dim=1).quantile(PLAIN_SHARE)
    return color if spread <= PLAIN_TOLERANCE else None


def describe_opaque(has_alpha: Sequence[bool], plain: Sequence[bool]) -> tuple[str, ...]:
    """Say what is unknown of views without an alpha channel."""
    opaque = has_alpha.count(False)
    if opaque == 0:
        return ()
    notes = [f"{opaque} of {len(has_alpha)} true views have no alpha channel (opaque), so that they have no IoU."]
    if cluttered := opaque - sum(plain):
        notes.append(
            f"{cluttered} of them have no plain background either: their PSNR and SSIM count it, against white."
        )
    return tuple(notes)


def describe_angles(cameras: Cameras) -> tuple[str, ...]:
    """Ask about angles that look like radians."""
    angles, azimuths = torch.cat([cameras.elevation, cameras.azimuth]), cameras.azimuth
    few = bool(angles.abs().max() <= 2.0 * math.pi and azimuths.max() - azimuths.min() > 1.0 and (angles % 1.0).any())
    if few or bool(cameras.fov_y.max() < 2.0):
        return (
            "All angles of views.json lie within +-2 pi, or its field of view does: are they radians? It has degrees.",
        )
    return ()


def _check_ranges(cameras: Cameras) -> None:
    """Raise `ValueError` for cameras that no lens has."""
    lenses = (cameras.radius > 0.0) & cameras.radius.isfinite() & (cameras.fov_y > 0.0) & (cameras.fov_y < 180.0)
    angles = (cameras.elevation.abs() <= 90.0) & cameras.azimuth.isfinite()
    if not (1 <= cameras.width <= LARGEST_SIDE and bool((lenses & angles).all())):
        limits = f"size 1 to {LARGEST_SIDE:,}, distance above 0, fov_y_deg below 180, elevation_deg within 90"
        raise ValueError(f"expected {limits}")


def _read_view(path: Path, size: int) -> Float[Tensor, "H W 4"]:
    """Straight-alpha RGBA in [0, 1]."""
    pixels = straighten(read_rgba(path, max_side=math.inf), path)
    if pixels.shape[:2] != (size, size):
        height, width = pixels.shape[:2]
        raise ValueError(
            f"Expected {path} to have {size}x{size} pixels as views.json says, but it has {width}x{height}."
        )
    return torch.from_numpy(pixels.copy())


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
        light = self.ambient + (1.0 - self.ambient) * self.light(normals, towards)
        return self.file.colors(points.faces, points.weights) * light

    def light(self, normals: Float[Tensor, "N 3"], towards: Float[Tensor, "N 3"]) -> Float[Tensor, "N 1"]:
        """What is not ambient, in [0, 1], by unit normals and directions to the eye: from the eye, |n . v|."""
        return (normals * towards).sum(dim=-1, keepdim=True).abs()


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
    """Render a lit mesh from one camera as RGBA with straight alpha."""
    return render_smooth(LitMesh(file=file, geometry=geometry, eye=camera.eyes[0], ambient=ambient), camera)


def render_smooth(surface: Surface, camera: Cameras) -> Float[Tensor, "H W 4"]:
    """Render one camera as RGBA with straight alpha, the mean of `SAMPLES` squared samples a pixel."""
    fine = Cameras.orbit(
        elevation=camera.elevation, azimuth=camera.azimuth, radius=camera.radius, fov_y=camera.fov_y,
        size=SAMPLES * camera.width,
    )  # fmt: skip
    render = render_surface(surface, fine, torch.zeros(1, 3), config=RasterRendererConfig(antialias=False))
    samples = torch.cat([render.color, render.alpha], dim=-1).permute(0, 3, 1, 2)
    color, alpha = functional.avg_pool2d(samples, SAMPLES)[0].permute(1, 2, 0).split((3, 1), dim=-1)
    return torch.cat([color / alpha.clamp(min=1.0 / SAMPLES**2), alpha], dim=-1)


@torch.no_grad()
def write_views(folder: Path, file: MeshFile, name: str, *, azimuth: float = 0.0, size: int | None = None) -> None:
    """Write input.png, 000.png and on, and last views.json. Raises `FileExistsError` if others are there.

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
        write_once(folder / file_name, encode_image(render_view(file, geometry, cameras[index], protocol.ambient)))
        angles = {name: float(getattr(cameras, name)[index]) for name in ("elevation", "azimuth")}
        views.append({"file": file_name, **{f"{name}_deg": angle for name, angle in angles.items()}})
    described = {
        "protocol": name, "distance": protocol.distance, "fov_y_deg": protocol.fov_y, "object_radius": RADIUS,
        "size": size, "input": views[0], "views": views[1:],
    }  # fmt: skip
    write_once(folder / "views.json", json.dumps(described, indent=2).encode() + b"\n")
