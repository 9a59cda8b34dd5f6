"""Load image files as straight-alpha RGBA without their background, and place the object as the prior frames it."""

from .arrays import PictureError
from .framing import FramedPicture, Framing, frame_picture, show_cutout
from .loading import load_picture, read_rgba

__all__ = ["FramedPicture", "Framing", "PictureError", "frame_picture", "load_picture", "read_rgba", "show_cutout"]
