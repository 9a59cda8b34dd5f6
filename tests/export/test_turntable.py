"""Pictures and videos, opened again: the same views in the same order."""

import av
import numpy as np
import pytest
import torch
from PIL import Image

from hash3d.export.turntable import FRAMES_PER_SECOND, orbit, render_each, save_image, tile, write_video


def gradient(turn: float, size: int = 64) -> torch.Tensor:
    """A smooth picture, another one at each turn: red to the right, green down, blue with the turn."""
    ramp = torch.linspace(0.1, 0.9, size)
    return torch.stack(torch.broadcast_tensors(ramp[None, :], ramp[:, None], torch.tensor([[turn]])), dim=-1)


def frames_of(path) -> tuple[torch.Tensor, float]:
    """The frames "N H W 3" in [0, 1] that another program sees, and how many a second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return torch.tensor(np.stack(frames)) / 255.0, float(stream.average_rate)


def test_a_picture_comes_back_to_half_a_step_of_eight_bits(tmp_path):
    picture = torch.rand(5, 7, 3, generator=torch.Generator().manual_seed(0))
    save_image(picture, tmp_path / "a.png")
    found = torch.tensor(np.asarray(Image.open(tmp_path / "a.png"))) / 255.0
    torch.testing.assert_close(found, picture, atol=0.5 / 255 + 1e-6, rtol=0)


def test_pictures_lie_in_rows_and_the_rest_is_white():
    pictures = [torch.full((2, 3, 3), 0.1 * number) for number in range(5)]
    sheet = tile(pictures, columns=3)
    assert sheet.shape == (4, 9, 3)
    for number, picture in enumerate([*pictures, torch.ones(2, 3, 3)]):
        row, column = divmod(number, 3)
        assert torch.equal(sheet[2 * row : 2 * row + 2, 3 * column : 3 * column + 3], picture)


def test_an_orbit_starts_in_front_and_goes_round_once():
    cameras = orbit(8, elevation=20.0, radius=1.5, fov_y=40.0, size=16)
    assert cameras.azimuth.tolist() == [45.0 * number for number in range(8)]
    views = render_each(lambda camera: (camera.azimuth / 360.0).view(1, 1, 1, 1).expand(1, 16, 16, 3), cameras)
    assert [round(8 * float(view.mean())) for view in views] == list(range(8))


@pytest.mark.parametrize("count", [1, 30])
def test_a_video_comes_back_frame_by_frame(count, tmp_path):
    frames = [gradient(turn) for turn in torch.linspace(0.0, 1.0, count).tolist()]
    write_video(frames, tmp_path / "turntable.mp4")
    found, rate = frames_of(tmp_path / "turntable.mp4")
    assert rate == FRAMES_PER_SECOND
    assert found.shape == (count, 64, 64, 3)
    # H.264 with colours at half the resolution; neighbours differ by 0.03 in blue.
    errors = (found - torch.stack(frames)).abs().mean(dim=(1, 2, 3))
    assert errors.max() < 0.01


def test_a_failed_video_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    video, image = tmp_path / "turntable.mp4", tmp_path / "a.png"
    write_video([gradient(0.5)], video)
    save_image(gradient(0.5), image)
    before = video.read_bytes(), image.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="full"):
        write_video([gradient(0.2)], video)
    with pytest.raises(OSError, match="full"):
        save_image(gradient(0.2), image)
    assert (video.read_bytes(), image.read_bytes()) == before
    assert {file.name for file in tmp_path.iterdir()} == {"turntable.mp4", "a.png"}


def test_a_name_of_another_format_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.mp4, but got 'a\.gif'"):
        write_video([gradient(0.2)], tmp_path / "a.gif")
    with pytest.raises(ValueError, match=r"ends in \.png, but got 'a\.jpg'"):
        save_image(gradient(0.2), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())
