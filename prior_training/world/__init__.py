"""The procedural world that the embedded priors learn from: objects, textures, distances, a sphere tracer."""

from .catalogue import draw_objects
from .objects import Objects
from .render import render

__all__ = ["Objects", "draw_objects", "render"]
