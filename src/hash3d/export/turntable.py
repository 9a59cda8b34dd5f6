"""Render an asset: a row of views, a contact sheet, a turntable video."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from hash3d.cameras import Cameras
from hash3d.files import check_suffix, write_bytes

RenderViews = Callable[[Cameras], Float[Tensor, "B H W 3"]]
"""Renders cameras on white, in [0, 1]."""

FRAMES_PER_SECOND = 24


def to_bytes(image: Float[Tensor, "*B W C"]) -> UInt8[np.ndarray, "*B W C"]:
    """Convert images in [0, 1] to 8 bits."""
    return (image.detach().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).cpu().numpy()


def encode_image(image: Image.Image | Float[Tensor, "H W C"], format: str = "PNG") -> bytes:
    """The bytes of an image file: PNG, or JPEG."""
    file, image = BytesIO(), Image.fromarray(to_bytes(image)) if isinstance(image, Tensor) else image
    image.save(file, format=format, **({"quality": 88} if format == "JPEG" else {}))
    return file.getvalue()


def save_image(image: Float[Tensor, "H W C"], path: Path) -> None:
    """Write a PNG, whole or not at all. Raises `ValueError` if `path` does not end in .png."""
    write_bytes(check_suffix(path, ".png"), encode_image(image))


def orbit(count: int, elevation: float, radius: float, fov_y: float, size: int) -> Cameras:
    """Place `count` cameras evenly all round, the first at azimuth 0."""
    azimuths = torch.arange(count) * (360.0 / count)
    return Cameras.orbit(elevation=elevation, azimuth=azimuths, radius=radius, fov_y=fov_y, size=size)


def tile(images: list[Float[Tensor, "H W 3"]], columns: int) -> Float[Tensor, "H2 W2 3"]:
    """Put images of one size side by side, in rows of `columns`; the last row is filled with white."""
    padded = images + [torch.ones_like(images[0])] * (-len(images) % columns)
    rows = [torch.cat(padded[start : start + columns], dim=1) for start in range(0, len(padded), columns)]
    return torch.cat(rows, dim=0)


def render_each(render: RenderViews, cameras: Cameras) -> list[Float[Tensor, "H W 3"]]:
    """Render one camera at a time, in the memory of one, to images in [0, 1] on the CPU."""
    with torch.no_grad():
        return [render(cameras[index])[0].clamp(0.0, 1.0).cpu() for index in range(len(cameras))]


def write_video(frames: list[Float[Tensor, "H W 3"]], path: Path) -> None:
    """Write an MP4 (H.264, yuv420p) of frames with even sides. Raises `ValueError` if `path` does not end in .mp4."""
    import av

    height, width = frames[0].shape[:2]
    path, file = check_suffix(path, ".mp4"), BytesIO()
    with av.open(file, mode="w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options={"crf": "18"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            image = av.VideoFrame.from_ndarray(np.ascontiguousarray(to_bytes(frame)), format="rgb24")
            container.mux(stream.encode(image))
        container.mux(stream.encode(None))
    write_bytes(path, file.getvalue())
