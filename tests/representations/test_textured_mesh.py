import copy

import pytest
import torch

from hash3d.representations.mesh import Mesh, SurfacePoints
from hash3d.representations.textured_mesh import TexturedMesh, TexturedMeshConfig, sample_texture
from tests.shapes import ball, cube, sphere, surface, volume

CONFIG = TexturedMeshConfig(texture_size=64, padding=2)


def centres(size: int, step: int = 1) -> torch.Tensor:
    """Coordinates (u, v) of the centres of texels `step` texels wide, row by row."""
    place = (torch.arange(size // step, dtype=torch.float64) + 0.5) * step / size
    rows, columns = torch.meshgrid(place, place, indexing="ij")
    return torch.stack([columns, 1 - rows], dim=-1).reshape(-1, 2)


def sample(texture: torch.Tensor, uv: torch.Tensor, levels: torch.Tensor) -> torch.Tensor:
    return sample_texture(texture, (2.0 * uv - 1.0) * torch.tensor([1.0, -1.0]), levels)


def at(mesh: Mesh, faces: torch.Tensor, weights: torch.Tensor, face_pixels: torch.Tensor) -> SurfacePoints:
    return SurfacePoints(mesh=mesh, faces=faces, weights=weights, views=faces * 0, face_pixels=face_pixels)


def test_texel_centres_are_exact_and_values_between_are_linear():
    texture = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(0)).double()
    zeros = torch.zeros(32 * 32, dtype=torch.float64)
    torch.testing.assert_close(sample(texture, centres(32), zeros), texture.reshape(-1, 3))
    right, up = torch.tensor([0.25, 0.0]) / 32, torch.tensor([0.0, 0.5]) / 32
    inner = centres(32).reshape(32, 32, 2)[1:, :-1].reshape(-1, 2)
    beside = 0.75 * texture[:, :-1] + 0.25 * texture[:, 1:]
    expected = (0.5 * beside[1:] + 0.5 * beside[:-1]).reshape(-1, 3)
    torch.testing.assert_close(sample(texture, inner + right + up, zeros[: len(inner)]), expected)


@pytest.mark.parametrize("level", [1, 2, 4])
def test_a_level_is_the_mean_of_its_texels(level):
    texture = torch.rand(32, 32, 2, generator=torch.Generator().manual_seed(0)).double()
    step = 2**level
    means = texture.reshape(32 // step, step, 32 // step, step, 2).mean(dim=(1, 3)).reshape(-1, 2)
    places = centres(32, step)
    levels = torch.full((len(places),), float(level), dtype=torch.float64)
    torch.testing.assert_close(sample(texture, places, levels), means)
    if level == 4:
        torch.testing.assert_close(sample(texture, places, levels + 3), means)
    between = sample(texture, places, levels - 0.25)
    finer = sample(texture, places, levels - 1)
    torch.testing.assert_close(between, 0.75 * means + 0.25 * finer)


def test_texture_gradients_are_those_of_finite_differences():
    generator = torch.Generator().manual_seed(0)
    texture, uv = torch.rand(16, 16, 2, generator=generator).double(), torch.rand(9, 2, generator=generator).double()
    levels = torch.linspace(-0.5, 4.3, 9, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda texture, uv: sample(texture, uv, levels), (texture.requires_grad_(), uv.requires_grad_())
    )
    assert sample(texture, uv[:0], levels[:0]).shape == (0, 2)


@pytest.mark.parametrize("shape", [cube(), ball(8), surface(sphere, 10, torch.float32)])
def test_the_unwrapped_faces_have_area_and_do_not_overlap(shape):
    textured = TexturedMeshConfig(texture_size=256).build(shape)
    assert textured.uv.min() >= 0
    assert textured.uv.max() <= 1
    assert textured.uv_faces.shape == shape.faces.shape
    large = shape.face_areas > 1e-6
    assert (textured.texel_areas()[large] > 0).all()
    # A texture finer than the faces: no texel lies in two of them but on their edges.
    places = centres(200).float()
    a, b, c = textured.uv[textured.uv_faces].float().unbind(1)
    first, second = b - a, c - a
    determinant = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    owners = torch.zeros(len(places), dtype=torch.int64)
    for corner, one, other, area in zip(a, first, second, determinant, strict=True):
        offset = places - corner
        u = (offset[:, 0] * other[1] - offset[:, 1] * other[0]) / area
        v = (one[0] * offset[:, 1] - one[1] * offset[:, 0]) / area
        owners += (u > 1e-3) & (v > 1e-3) & (u + v < 1 - 1e-3)
    assert owners.max() == 1
    assert owners.float().mean() > 0.3, "the pieces fill a fair share of the texture"


def test_colours_come_from_the_texel_under_the_point_at_the_size_of_a_pixel():
    """One square of two faces over the whole texture."""
    square = Mesh(
        vertices=torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]),
        faces=torch.tensor([[0, 1, 2], [0, 2, 3]]),
    )
    textured = TexturedMesh(CONFIG, square, square.vertices[:, :2], square.faces)
    texture = 0.1 + 0.8 * torch.rand(64, 64, 3, generator=torch.Generator().manual_seed(0))
    textured.set_texture(texture)
    torch.testing.assert_close(textured.texture, texture)
    torch.testing.assert_close(textured.texel_areas(), torch.full((2,), 0.5 * 64**2))
    # (u, v) = (0.5 + 1 / 128, 0.5 - 1 / 128) is the centre of texel (32, 32), in the lower face.
    weights = torch.tensor([[0.5 - 1 / 128, 2 / 128, 0.5 - 1 / 128]])
    point = at(square, torch.tensor([0]), weights, torch.tensor([0.5 * 64**2]))
    torch.testing.assert_close(textured.colors_at(point)[0], texture[32, 32])
    # A face on a quarter of the pixels each way: 4 x 4 texels a pixel, level 2. Its corner is shared by four such.
    middle = at(square, torch.tensor([0]), torch.tensor([[0.5, 0.0, 0.5]]), torch.tensor([0.5 * 16**2]))
    torch.testing.assert_close(textured.colors_at(middle)[0], texture[28:36, 28:36].mean(dim=(0, 1)))


def test_what_learns_is_the_texture_and_if_wanted_the_vertices():
    fixed = CONFIG.build(cube(half=0.4))
    assert [group["name"] for group in fixed.build_optimizer().param_groups] == ["texture_logits"]
    assert torch.equal(fixed.mesh().vertices, cube(half=0.4).vertices)
    config = TexturedMeshConfig(texture_size=64, offsets_lr=1e-3, adam_betas=(0.95, 0.999))
    shape = config.build(Mesh(vertices=cube().vertices.float(), faces=cube().faces))
    optimizer = shape.build_optimizer()
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {"texture_logits": 0.2, "offsets": 1e-3}
    assert optimizer.defaults["betas"] == (0.95, 0.999)
    before = volume(shape.mesh()).item()
    (-volume(shape.mesh())).backward()
    optimizer.step()
    assert volume(shape.mesh()).item() > before


def test_a_checkpoint_brings_another_mesh_and_its_optimizer_goes_on():
    config = TexturedMeshConfig(texture_size=32, offsets_lr=1e-3)
    stored = config.build(ball(6, dtype=torch.float32))
    optimizer = stored.build_optimizer()
    (volume(stored.mesh()) + stored.texture.square().sum()).backward()
    optimizer.step()
    small = Mesh(vertices=cube().vertices.float(), faces=cube().faces)
    resumed = TexturedMeshConfig(texture_size=16, offsets_lr=1e-3).build(small)
    assert len(resumed.mesh().edges.vertices) == 18
    resumed.load_state_dict(stored.state_dict())
    assert torch.equal(resumed.mesh().edges.vertices, stored.mesh().edges.vertices)
    resumed_optimizer = resumed.build_optimizer()
    resumed_optimizer.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for shape, adam in ((stored, optimizer), (resumed, resumed_optimizer)):
        adam.zero_grad()
        (volume(shape.mesh()) + shape.texture.square().sum()).backward()
        adam.step()
    assert torch.equal(resumed.mesh().vertices, stored.mesh().vertices)
    assert torch.equal(resumed.mesh().faces, stored.mesh().faces)
    assert torch.equal(resumed.texture, stored.texture)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="Expected a texture size that 16 divides"):
        TexturedMeshConfig(texture_size=100)
    empty = Mesh(vertices=torch.zeros(0, 3), faces=torch.zeros(0, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="Expected a mesh with faces"):
        CONFIG.build(empty)
