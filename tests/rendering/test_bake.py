import torch

from hash3d.cameras import Cameras
from hash3d.rendering.bake import bake, colors_from_views, fill, texel_points
from hash3d.rendering.raster import RasterRendererConfig, render_surface
from hash3d.representations.mesh import Mesh
from hash3d.representations.textured_mesh import TexturedMeshConfig
from tests.shapes import ball, cube, joined

BALL = ball(12, dtype=torch.float32)
AROUND = Cameras.orbit(
    elevation=[0.0] * 4 + [60.0] * 4 + [-60.0] * 4,
    azimuth=[0.0, 90.0, 180.0, 270.0, 45.0, 135.0, 225.0, 315.0, 45.0, 135.0, 225.0, 315.0],
    radius=2.5,
    fov_y=40.0,
    size=96,
)


def pattern(positions: torch.Tensor) -> torch.Tensor:
    """Smooth colours in [0.1, 0.9]."""
    return 0.5 + 0.4 * torch.sin(4 * positions + torch.tensor([0.0, 1.0, 2.0]).to(positions))


class Painted:
    """A mesh in the colours of `pattern`."""

    def __init__(self, mesh: Mesh) -> None:
        self.shape = mesh

    def mesh(self) -> Mesh:
        return self.shape

    def colors_at(self, points):
        return pattern(points.positions)


def test_texels_lie_under_their_points():
    textured = TexturedMeshConfig(texture_size=128).build(BALL)
    points, texels = texel_points(textured)
    uv = (textured.uv[textured.uv_faces[points.faces]] * points.weights[..., None]).sum(dim=1)
    centres = torch.stack([texels % 128 + 0.5, 128 - texels // 128 - 0.5], dim=-1) / 128
    torch.testing.assert_close(uv, centres.to(uv), atol=1e-5, rtol=0)
    assert len(texels.unique()) == len(texels)
    covered = float(textured.texel_areas().sum())
    assert abs(len(texels) - covered) < 0.03 * covered


def test_a_baked_texture_looks_like_what_it_was_baked_from():
    textured = TexturedMeshConfig(texture_size=256).build(BALL)
    bake(textured, Painted(BALL).colors_at)
    background = torch.ones(len(AROUND), 3)
    expected = render_surface(Painted(BALL), AROUND, background)
    found = render_surface(textured, AROUND, background)
    assert torch.equal(found.alpha, expected.alpha), "seams of the texture are no silhouettes"
    errors = (found.color - expected.color).abs()
    # Near the outline a pixel spans many texels, at times across the border of a piece, where the gutter is constant.
    assert errors.quantile(0.999) < 0.06
    assert errors.mean() < 0.002


def test_images_bake_back_into_the_texture_they_show():
    textured = TexturedMeshConfig(texture_size=128).build(BALL)
    images = render_surface(Painted(BALL), AROUND, torch.ones(len(AROUND), 3)).color
    bake(textured, colors_from_views(BALL, AROUND, images))
    points, texels = texel_points(textured)
    errors = (textured.texture.reshape(-1, 3)[texels] - pattern(points.positions)).abs().amax(dim=-1).detach()
    assert errors.quantile(0.99) < 0.03  # pixels are 0.02 wide, where colours change by 0.03
    assert errors.mean() < 0.01


def test_what_hides_a_surface_does_not_colour_it(monkeypatch):
    """A small red cube before a large green one: neither takes the other's colour, and what is hidden is grey."""
    scene = joined(cube(0.4), cube(0.15, (0.0, 0.0, 0.7)))
    colors = torch.tensor([[0.0, 1.0, 0.0]]).double().repeat(16, 1)
    colors[8:] = torch.tensor([1.0, 0.0, 0.0])
    scene = Mesh(vertices=scene.vertices, faces=scene.faces, colors=colors)
    front = Cameras.orbit(elevation=0.0, azimuth=0.0, radius=2.5, fov_y=40.0, size=96)
    config = RasterRendererConfig(antialias=False)
    images = render_surface(scene, front, torch.ones(1, 3), config=config).color
    textured = TexturedMeshConfig(texture_size=64).build(scene)
    points, _ = texel_points(textured)
    monkeypatch.setattr("hash3d.rendering.bake.MIN_COSINE", 0.0)
    found = colors_from_views(scene, front, images)(points)
    small = points.faces >= 12
    grey = (found == 0.5).all(dim=-1)
    assert grey.any()
    red, green = found[:, 0] - found[:, 1] > 0.9, found[:, 1] - found[:, 0] > 0.9
    assert red[small & ~grey].float().mean() > 0.7, "but in the outermost of 12 pixels, which mix with their neighbours"
    assert green[~small & ~grey].float().mean() > 0.7
    shadow = ~small & (points.positions[:, 2] > 0.399) & (points.positions[:, :2].abs().amax(dim=-1) < 0.14)
    assert shadow.any()
    assert grey[shadow].all()


def test_empty_texels_copy_the_nearest():
    texture = torch.zeros(8, 8, 3)
    texture[2, 1], texture[5, 6] = torch.tensor([1.0, 0.0, 0.0]), torch.tensor([0.0, 1.0, 0.0])
    covered = torch.zeros(8, 8, dtype=torch.bool)
    covered[2, 1] = covered[5, 6] = True
    filled = fill(texture, covered)
    rows, columns = torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")
    first = (rows - 2) ** 2 + (columns - 1) ** 2 < (rows - 5) ** 2 + (columns - 6) ** 2
    second = (rows - 2) ** 2 + (columns - 1) ** 2 > (rows - 5) ** 2 + (columns - 6) ** 2
    assert (filled[first] == torch.tensor([1.0, 0.0, 0.0])).all()
    assert (filled[second] == torch.tensor([0.0, 1.0, 0.0])).all()
