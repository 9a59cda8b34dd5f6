"""A disc drawn at a known place lands at the known radius and centre."""

import math

import pytest
import torch

from hash3d.pictures import PictureError, frame_picture, show_cutout
from hash3d.pictures.framing import KEPT_RADII, OUTER_RADIUS
from tests.pictures.drawing import RED, disc

BOUNDING_SPHERE = math.tan(math.asin(0.5 / 1.5)) / math.tan(math.radians(49.1 / 2))


def picture_of(size, centre, radius, **options):
    return torch.from_numpy(disc(size, centre, radius, **options)).float() / 255


def place(alpha):
    """Centre (column, row) and radius of a disc, from its first and second moments."""
    weights = alpha[..., 0].double()
    rows, columns = (torch.arange(length).double() + 0.5 for length in weights.shape)
    total = weights.sum()
    column, row = (weights.sum(0) * columns).sum() / total, (weights.sum(1) * rows).sum() / total
    return column.item(), row.item(), math.sqrt(total.item() / math.pi)


def test_the_docstring_s_radius():
    assert pytest.approx(0.774, abs=5e-4) == BOUNDING_SPHERE
    assert OUTER_RADIUS < BOUNDING_SPHERE < KEPT_RADII[1]


def test_a_cutout_is_shown_over_two_greys():
    picture = picture_of(64, (32, 32), 20)
    shown = show_cutout(picture)
    assert torch.equal(shown[32, 32], picture[32, 32, :3])
    assert shown[0, 0].tolist() == [pytest.approx(0.55)] * 3
    assert shown[0, 16].tolist() == shown[16, 0].tolist() == [pytest.approx(0.75)] * 3


@pytest.mark.parametrize("size", [64, 128, 256])
@pytest.mark.parametrize(("centre", "radius"), [((40, 90), 20), ((100, 100), 60), ((20, 20), 20), ((128, 128), 120)])
def test_recentred(size, centre, radius):
    framed = frame_picture(picture_of(256, centre, radius), size, "recentre")
    column, row, landed = place(framed.alpha)
    assert abs(column - size / 2) < 0.02 * size / 2
    assert abs(row - size / 2) < 0.02 * size / 2
    assert landed == pytest.approx(OUTER_RADIUS * size / 2, rel=0.03)
    assert landed == pytest.approx(framed.scale * radius, rel=0.01)
    assert (framed.scale * centre[0] + framed.shift[0], framed.scale * centre[1] + framed.shift[1]) == pytest.approx(
        (column, row), abs=0.5
    )


@pytest.mark.parametrize("around", [(0, 0, 0), (0, 255, 0)])
@pytest.mark.parametrize("size", [48, 200, 600])
def test_no_fringes(size, around):
    """Where the disc covers a share a of a pixel, that pixel on white is a red + (1 - a) white, exactly."""
    framed = frame_picture(picture_of(256, (90, 120), 50, around=around), size, "recentre")
    red = torch.tensor(RED) / 255
    torch.testing.assert_close(
        framed.color_on_white, framed.alpha * red + 1 - framed.alpha, rtol=0, atol=1e-5, check_dtype=False
    )
    assert 0 <= framed.alpha.min() <= framed.alpha.max() <= 1


def test_kept_is_bit_for_bit():
    picture = picture_of(128, (64, 64), 40)
    framed = frame_picture(picture, 128, "keep")
    assert torch.equal(framed.alpha, picture[..., 3:])
    assert (framed.scale, framed.shift) == (1.0, (0.0, 0.0))


def test_kept_oblong_pictures_are_padded():
    picture = picture_of(128, (64, 64), 30)[20:108]
    framed = frame_picture(picture, 64, "keep")
    assert place(framed.alpha) == pytest.approx((32, 32, 15), abs=0.1)
    assert framed.shift == (0.0, 10.0)


@pytest.mark.parametrize(
    ("centre", "radius", "kept"),
    [
        ((64, 64), 40, True),
        ((64, 64), 22, False),  # Too small.
        ((64, 64), 55, False),  # Too large.
        ((70, 64), 40, True),
        ((74, 64), 35, False),  # Off centre.
    ],
)
def test_auto(centre, radius, kept):
    picture = picture_of(128, centre, radius)
    auto = frame_picture(picture, 128)
    other = frame_picture(picture, 128, "keep" if kept else "recentre")
    assert torch.equal(auto.color_on_white, other.color_on_white)
    assert (auto.scale == 1) == kept


def test_auto_recentres_an_oblong_picture():
    picture = picture_of(128, (64, 64), 40)[4:]
    assert frame_picture(picture, 128).scale != 1


def test_specks_do_not_count():
    picture = picture_of(128, (50, 60), 20)
    speckled = picture.clone()
    speckled[120:122, 120:122] = 1
    assert frame_picture(speckled, 64, "recentre").scale == frame_picture(picture, 64, "recentre").scale


def test_haze_does_not_count_and_glass_does():
    """What matting leaves behind, 8 % opaque, is not framed; a wing of 40 % is, and lies inside."""
    picture = picture_of(128, (64, 64), 20)
    hazy = picture.clone()
    hazy[..., 3] = hazy[..., 3].clamp(min=0.08)
    assert frame_picture(hazy, 64, "recentre").scale == frame_picture(picture, 64, "recentre").scale
    winged = picture.clone()
    winged[60:68, 84:120] = torch.tensor([0.5, 0.5, 0.9, 0.4])
    framed = frame_picture(winged, 128, "recentre")
    _, columns = torch.nonzero(framed.alpha[..., 0] > 0.2, as_tuple=True)
    assert abs(columns.min() + columns.max() - 127) <= 2
    assert columns.max() < 64 + OUTER_RADIUS * 64 + 1


def test_an_empty_picture_is_refused():
    with pytest.raises(PictureError, match="no pixel is more than half opaque"):
        frame_picture(torch.zeros(32, 32, 4), 32)


@pytest.mark.parametrize(("alpha", "reach"), [(0.12, 28.0), (0.08, 8.0)])
def test_glass_counts_for_the_framing_and_haze_does_not(alpha, reach):
    """An opaque square of 16 pixels in one of 56 that is hardly visible."""
    rgba = torch.zeros(64, 64, 4)
    rgba[4:60, 4:60, 3], rgba[24:40, 24:40, 3] = alpha, 1.0
    corner = (reach - 0.5) * 2**0.5
    assert frame_picture(rgba, 64, "recentre").scale == pytest.approx(64 * 0.7 / (2 * corner))
