"""A mesh of fixed topology with a texture: the second stage of DreamGaussian (Tang et al. 2024).

A texture is an image "T T 3"; texel (column, row) has its centre at u = (column + 0.5) / T, v = 1 - (row + 0.5) / T.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from .mesh import Edges, Mesh, SurfacePoints
from .optimizer import ParameterGroup, Resizable, Trainable

COARSEST_TEXELS = 16
"""Side of the coarsest mip level's texel in texels: four halvings."""
CHART_FACES = 250
"""No piece of the unwrapped surface is larger than this many of its faces, nor than a hundredth of it."""
PART_FACES = 2_000
"""xatlas gets a mesh in parts of at most so many faces: over more its time grows with their square, and on a rough
surface faster."""
LOGIT_MARGIN = 1e-6
"""Colours are cut to [1e-6, 1 - 1e-6] before the logit (DreamGaussian 69a3c70, mesh_renderer.py)."""


@dataclass(frozen=True, kw_only=True)
class TexturedMeshConfig:
    """The texture and the learning rates; the defaults are DreamGaussian's second stage.

    Args:
        texture_size: Texels a side, a multiple of 16.
        padding: Texels between two pieces of the unwrapped surface.
        texture_lr: Learning rate of the texture, before the sigmoid.
        offsets_lr: Learning rate of the vertices' offsets, in scene units a step; None keeps the geometry as it is.
            DreamGaussian has 1e-4 where it trains the geometry.
        adam_betas: Adam's averages ((0.95, 0.999) in DreamGaussian with Hash3D).
    """

    texture_size: int = 1024
    padding: int = 4
    texture_lr: float = 0.2
    offsets_lr: float | None = None
    adam_betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.texture_size < COARSEST_TEXELS or self.texture_size % COARSEST_TEXELS:
            raise ValueError(
                f"Expected a texture size that {COARSEST_TEXELS} divides, but got {self.texture_size}. Give 1024."
            )

    def build(self, mesh: Mesh) -> "TexturedMesh":
        """Unwrap `mesh`, with a grey texture for `hash3d.rendering.bake`. `ValueError` if it has no face."""
        uv, uv_faces = unwrap(mesh, self.texture_size, self.padding)
        return TexturedMesh(self, mesh, uv, uv_faces)


class _Fixed(NamedTuple):
    """What the faces alone decide: edges, the corners' places as `sample_texture` takes them, areas in texels."""

    edges: Edges
    corners: Float[Tensor, "F 3 2"]
    areas: Float[Tensor, " F"]


class TexturedMesh(Resizable, Trainable):
    """A trainable texture on a mesh; a checkpoint brings its own mesh and texture size.

    Parameters: `texture_logits` "T T 3" (before the sigmoid) and, if the geometry learns, `offsets` "V 3" (scene
    units). `uv_faces` "F 3" are rows of `uv` "K 2": vertices are shared across seams, so a seam is no silhouette.
    """

    vertices: Tensor
    faces: Tensor
    uv: Tensor
    uv_faces: Tensor

    def __init__(
        self, config: TexturedMeshConfig, mesh: Mesh, uv: Float[Tensor, "K 2"], uv_faces: Int[Tensor, "F 3"]
    ) -> None:
        super().__init__()
        self.config, self.adam_betas = config, config.adam_betas
        buffers = {"vertices": mesh.vertices, "faces": mesh.faces, "uv": uv, "uv_faces": uv_faces}
        for name, values in buffers.items():
            self.register_buffer(name, values.detach().clone())
        self._known: dict[tuple[int, int], _Fixed] = {}
        self.texture_logits = nn.Parameter(mesh.vertices.new_zeros(config.texture_size, config.texture_size, 3))
        self.offsets = None if config.offsets_lr is None else nn.Parameter(torch.zeros_like(self.vertices))

    @property
    def texture(self) -> Float[Tensor, "T T 3"]:
        """The colours, in (0, 1)."""
        return self.texture_logits.sigmoid()

    @torch.no_grad()
    def set_texture(self, texture: Float[Tensor, "T T 3"]) -> None:
        """Set the colours to `texture`, RGB in [0, 1]."""
        self.texture_logits.copy_(texture.to(self.texture_logits).logit(eps=LOGIT_MARGIN))

    def mesh(self) -> Mesh:
        """Return the geometry."""
        vertices = self.vertices if self.offsets is None else self.vertices + self.offsets
        return Mesh(vertices=vertices, faces=self.faces, known_edges=self._fixed.edges)

    @property
    def _fixed(self) -> _Fixed:
        """Computed anew after a checkpoint has brought other faces."""
        key = id(self.faces), self.faces._version
        if key not in self._known:
            edges = Mesh(vertices=self.vertices, faces=self.faces).edges
            u, v = self.uv[self.uv_faces].unbind(-1)
            self._known = {key: _Fixed(edges, torch.stack([2.0 * u - 1.0, 1.0 - 2.0 * v], dim=-1), self.texel_areas())}
        return self._known[key]

    def colors_at(self, points: SurfacePoints) -> Float[Tensor, "N 3"]:
        """Sample the texture, filtered to the size of a pixel."""
        _, corners, areas = self._fixed
        places = (corners[points.faces] * points.weights[..., None]).sum(dim=1)
        levels = 0.5 * torch.log2(areas[points.faces] / points.face_pixels)
        return sample_texture(self.texture, places, levels)

    def texel_areas(self) -> Float[Tensor, " F"]:
        """Return the areas of the faces on the texture, in texels."""
        a, b, c = (self.uv[self.uv_faces] * len(self.texture_logits)).unbind(1)
        (x1, y1), (x2, y2) = (b - a).unbind(-1), (c - a).unbind(-1)
        return 0.5 * (x1 * y2 - x2 * y1).abs()

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return one group a parameter, under the parameter's name."""
        groups: list[ParameterGroup] = [
            {"name": "texture_logits", "params": [self.texture_logits], "lr": self.config.texture_lr}
        ]
        if self.offsets is not None and self.config.offsets_lr is not None:
            groups.append({"name": "offsets", "params": [self.offsets], "lr": self.config.offsets_lr})
        return groups


def sample_texture(
    texture: Float[Tensor, "T T C"], places: Float[Tensor, "N 2"], levels: Float[Tensor, " N"]
) -> Float[Tensor, "N C"]:
    """Sample `texture`, linear between the centres of texels and between mip levels (Williams 1983).

    A place is (2 u - 1, 1 - 2 v). Level l is the texture halved l times by means; levels are cut to [0, 4]. Each place
    is sampled at all levels, as asking how many use one would make the host wait for a GPU.
    """
    last = COARSEST_TEXELS.bit_length() - 1
    away = levels.clamp(0, last) - torch.arange(last + 1, device=levels.device)[:, None]
    images = [texture.permute(2, 0, 1)[None]]
    for _ in range(last):
        images.append(functional.avg_pool2d(images[-1], 2))
    grid = places[None, None]
    samples = [functional.grid_sample(each, grid, padding_mode="border", align_corners=False) for each in images]
    return ((1.0 - away.abs()).clamp(min=0.0) * torch.cat(samples, dim=2)).sum(dim=2)[0].T


def unwrap(mesh: Mesh, texture_size: int, padding: int) -> tuple[Float[Tensor, "K 2"], Int[Tensor, "F 3"]]:
    """Compute texture coordinates by xatlas (Young 2018), and the rows of them at the corners of each face."""
    import xatlas

    if not len(mesh):
        raise ValueError("Expected a mesh with faces, but it has none. Lower the threshold it was made with.")
    atlas = xatlas.Atlas()
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_chart_area = float(mesh.face_areas.sum()) / max(100.0, len(mesh) / CHART_FACES)
    packing.resolution, packing.padding, packing.bilinear = texture_size, padding, True
    vertices, faces = mesh.vertices.detach().cpu().float().numpy(), mesh.faces.cpu().numpy()
    parts = _split_faces(vertices[faces].mean(axis=1))
    for part in parts:
        used, corners = np.unique(faces[part], return_inverse=True)
        atlas.add_mesh(vertices[used], corners.reshape(-1, 3).astype(np.uint32))
    atlas.generate(charts, packing)
    unwrapped = [atlas[index][1:] for index in range(len(parts))]
    starts = np.cumsum([0, *(len(uv) for _, uv in unwrapped)])
    uv_faces = np.empty_like(faces)
    for part, (corners, _), start in zip(parts, unwrapped, starts[:-1], strict=True):
        uv_faces[part] = corners + start
    uv = torch.from_numpy(np.concatenate([uv for _, uv in unwrapped]))
    return uv.to(mesh.vertices), torch.from_numpy(uv_faces).to(mesh.vertices.device)


def _split_faces(centres: Float[np.ndarray, "F 3"]) -> list[Int[np.ndarray, " P"]]:
    """Split the faces into parts of at most PART_FACES, by halving along the longest axis of their centres."""
    parts, whole = [], [np.arange(len(centres))]
    while whole:
        part = whole.pop()
        if len(part) <= PART_FACES:
            parts.append(part)
            continue
        axis = np.ptp(centres[part], axis=0).argmax()
        ordered = part[np.argsort(centres[part, axis], kind="stable")]
        whole += [ordered[: len(part) // 2], ordered[len(part) // 2 :]]
    return parts
