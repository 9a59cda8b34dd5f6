"""Renders views of free furniture libraries, which train `mini-zero123` and `mini-elevation` beside the world.

    apt-get download sweethome3d-furniture && dpkg-deb -x sweethome3d-furniture_*.deb unpacked
    python -m prior_training.mesh_views --libraries unpacked/usr/share/sweethome3d/furniture --out meshes

The libraries (`.sh3f`) are of Sweet Home 3D: 783 household objects under CC0 or CC-BY 3.0. Each whose textures have
no holes is rendered several times, with VIEWS views: as it is, then stretched, mirrored, leaning, in other colours and
under other light. A row of views is a file `LIBRARY-NUMBER-VARIANT.webp`; `angles.json` has their cameras.
"""

import logging
import re
import warnings
import zipfile
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor
from trimesh.transformations import rotation_matrix

from hash3d.evaluation.truth import LitMesh, fit_mesh, render_smooth
from hash3d.export.turntable import to_bytes
from hash3d.files import read_json, write_json
from hash3d.representations.mesh import SurfacePoints
from hash3d.representations.mesh_file import MeshFile, read_mesh

from .view_buffer import VIEWS, draw_angles, orbit

logger = logging.getLogger(__name__)

UNSUITED = ("Doors and windows", "Staircases")
"""Categories of what is no object."""
MOST_BYTES = 12 * 2**20
"""Of an OBJ file; larger ones read slowly."""
LEAST_OPAQUE = 0.98
"""Share of a texture's pixels: below, it has holes, which are not rendered."""
ANGLES = "angles.json"
NEARLY_WHITE = 246
"""Bytes from here on are the ground: WebP blurs it."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What is rendered."""

    libraries: Path
    """Folder of `.sh3f` files."""
    out: Path
    """Folder of the views."""
    variants: int = 4
    """Rows of views of each object."""
    size: int = 128
    """Pixels of a side."""
    quality: int = 80
    """Of WebP."""
    workers: int = 2
    """Processes."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """An object of a library."""

    library: Path
    number: int
    model: str
    """Its OBJ file in the library, beside its materials and textures."""

    @property
    def name(self) -> str:
        """`LIBRARY-NUMBER`."""
        return f"{self.library.stem}-{self.number:03}"


def read_catalogue(library: Path) -> list[Piece]:
    """The objects of a library: `key#number=value` in its PluginFurnitureCatalog.properties."""
    with zipfile.ZipFile(library) as archive:
        lines = archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
        sizes = {each.filename: each.file_size for each in archive.infolist()}
    described: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*?)\s*$", lines, re.MULTILINE):
        described.setdefault(int(number), {})[key] = value.lstrip("/")
    return [
        Piece(library=library, number=number, model=values["model"])
        for number, values in sorted(described.items())
        if values["category"] not in UNSUITED and sizes[values["model"]] <= MOST_BYTES
    ]


def read_piece(piece: Piece) -> MeshFile | None:
    """Its mesh; None if a texture has holes."""
    folder = piece.model.rpartition("/")[0] + "/"
    with TemporaryDirectory() as out, zipfile.ZipFile(piece.library) as archive:
        archive.extractall(out, [name for name in archive.namelist() if name.startswith(folder)])
        file = read_mesh(Path(out, piece.model))
        images = [getattr(getattr(part.visual, "material", None), "image", None) for part in file.parts]
        return None if any(image is not None and has_holes(image) for image in images) else file


def has_holes(image: Image.Image) -> bool:
    """Whether a texture is transparent in places."""
    alpha = np.asarray(image.convert("RGBA"))[..., 3]
    return bool((alpha > 127).mean() < LEAST_OPAQUE)


def rotation(axis: tuple[int, int, int], degrees: float) -> Float[Tensor, "3 3"]:
    """About an axis through the origin, counter-clockwise seen from its tip."""
    return torch.from_numpy(rotation_matrix(np.radians(degrees), axis)[:3, :3])


@dataclass(frozen=True, kw_only=True)
class Variant:
    """How an object is shown; the defaults leave it as it is."""

    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)
    """Of the axes; negative in x: mirrored."""
    lean: tuple[float, float] = (0.0, 0.0)
    """Degrees about z, then about x."""
    hue: float = 0.0
    """Degrees about the grey axis."""
    size: float = 1.0
    """Share of the sphere that it fills."""
    ambient: float = 0.6
    lamp: tuple[float, float, float] = (0.0, 1.0, 0.0)
    """The direction of a lamp that stays with the object."""
    lamp_share: float = 0.0
    """Of the light that is not ambient; the rest comes from the eye."""

    @classmethod
    def draw(cls, random: np.random.Generator) -> "Variant":
        """One of all: stretched by e^-0.3 to e^0.3, one in five leaning, half in another hue, half with a lamp."""
        stretch = np.exp(random.uniform(-0.3, 0.3, 3)) * (random.choice([-1, 1]), 1, 1)
        leans = random.uniform() < 0.2
        x, y, z = random.normal(size=3)
        return cls(
            stretch=tuple(stretch),
            lean=tuple(random.uniform(-90, 90, 2)) if leans else (0.0, 0.0),
            hue=random.choice([0.0, random.uniform(0, 360)]),
            size=random.uniform(0.7, 1.0),
            ambient=random.uniform(0.35, 1.0),
            lamp=(x, abs(y), z),
            lamp_share=random.choice([0.0, random.uniform(0, 1)]),
        )

    def shape(self, file: MeshFile) -> MeshFile:
        """The mesh in this shape."""
        turn = rotation((1, 0, 0), self.lean[1]) @ rotation((0, 0, 1), self.lean[0])
        scale = torch.tensor(self.stretch, dtype=torch.float64)
        normals = F.normalize(torch.as_tensor(file.normals, dtype=torch.float64) / scale, dim=-1)
        return replace(file, vertices=file.vertices * scale @ turn.T, normals=normals @ turn.T)


@dataclass(frozen=True, kw_only=True)
class Shown(LitMesh):
    """A mesh in a variant, seen from an eye."""

    variant: Variant

    def colors_at(self, points: SurfacePoints) -> Float[Tensor, "N 3"]:
        """RGB of both sides of the surface, in the variant's hue."""
        return (super().colors_at(points) @ rotation((1, 1, 1), self.variant.hue).float().T).clamp(0, 1)

    def light(self, normals: Float[Tensor, "N 3"], towards: Float[Tensor, "N 3"]) -> Float[Tensor, "N 1"]:
        """(1 - lamp_share) |n . v| + lamp_share max(n . l, 0) (Lambert), n on the eye's side, l towards the lamp."""
        lamp, share = F.normalize(torch.tensor(self.variant.lamp).float(), dim=0), self.variant.lamp_share
        outward = normals * (normals * towards).sum(dim=-1, keepdim=True).sign()
        return (1 - share) * super().light(normals, towards) + share * (outward @ lamp).clamp(min=0)[:, None]


def render_row(
    file: MeshFile, variant: Variant, elevation: Float[Tensor, " V"], azimuth: Float[Tensor, " V"], size: int
) -> Float[Tensor, "S VS 3"]:
    """Views on white in [0, 1], side by side; angles in degrees."""
    shaped = variant.shape(file)
    fitted = fit_mesh(shaped, "sphere")
    geometry = replace(fitted, vertices=variant.size * fitted.vertices)
    cameras, views = orbit(elevation, azimuth, size), []
    for index in range(len(cameras)):
        eye, ambient = cameras.eyes[index], variant.ambient
        surface = Shown(file=shaped, geometry=geometry, eye=eye, ambient=ambient, variant=variant)
        color, alpha = render_smooth(surface, cameras[index]).split((3, 1), dim=-1)
        views.append(color * alpha + 1 - alpha)
    return torch.cat(views, dim=1)


@torch.no_grad()
def render_piece(options: Options, piece: Piece) -> dict[str, Any]:
    """Write the rows of an object. Returns the angles of each by name: nothing for one that does not suit."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    file = read_piece(piece)
    if file is None:
        return {}
    angles = {}
    for number in range(options.variants):
        seed = [number, piece.number, *piece.library.stem.encode()]
        random = np.random.default_rng(seed)
        generator = torch.Generator().manual_seed(int(random.integers(2**62)))
        elevation, azimuth = (angle[0] for angle in draw_angles(1, VIEWS, generator))
        variant = Variant.draw(random) if number else Variant(ambient=random.uniform(0.5, 1.0))
        row = render_row(file, variant, elevation, azimuth, options.size)
        name = f"{piece.name}-{number}.webp"
        Image.fromarray(to_bytes(row)).save(options.out / name, quality=options.quality, method=6)
        angles[name] = {"elevation": elevation.tolist(), "azimuth": azimuth.tolist()}
    return angles


def read_views(
    folder: Path, held_out: bool = False
) -> tuple[UInt8[Tensor, "N V S S 4"], Float[Tensor, "N V"], Float[Tensor, "N V"]]:
    """The views of a folder, colour on white and coverage (0 or 255), with their elevations and azimuths in degrees.

    `held_out`: those of every tenth object of a library, which nothing is trained on; else all others.
    """
    angles = {name: each for name, each in sorted(read_json(folder / ANGLES).items()) if is_held_out(name) == held_out}
    elevation, azimuth = (torch.tensor([each[key] for each in angles.values()]) for key in ("elevation", "azimuth"))
    views = []
    for name in angles:  # With numpy: torch's threads make small work slow.
        row = np.array(Image.open(folder / name).convert("RGBA"))
        row[row.min(axis=-1) >= NEARLY_WHITE] = 255, 255, 255, 0
        views.append(np.stack(np.split(row, VIEWS, axis=1)))
    return torch.from_numpy(np.stack(views)), elevation, azimuth


def is_held_out(name: str) -> bool:
    """Whether a row is of a tenth object."""
    return int(name.split("-")[-2]) % 10 == 0


def main(arguments: list[str] | None = None) -> None:
    """The command line."""
    import tyro

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, args=arguments, description=__doc__)
    options.out.mkdir(parents=True, exist_ok=True)
    pieces = [piece for path in sorted(options.libraries.glob("*.sh3f")) for piece in read_catalogue(path)]
    angles: dict[str, Any] = {}
    with get_context("spawn").Pool(options.workers) as pool:
        for made in pool.imap_unordered(partial(render_piece, options), pieces):
            angles |= made
    write_json(options.out / ANGLES, angles)
    logger.info("%d rows of %d objects", len(angles), len(pieces))


if __name__ == "__main__":
    main()
