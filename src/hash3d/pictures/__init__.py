"""A picture file to straight-alpha RGBA without its background, and its object placed as the prior frames it."""

from .arrays import PictureError
from .framing import FramedPicture, Framing, frame_picture
from .loading import load_picture, read_rgba

__all__ = ["FramedPicture", "Framing", "PictureError", "frame_picture", "load_picture", "read_rgba"]
