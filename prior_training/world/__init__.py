"""The procedural world that the embedded priors learn from: objects, textures, distances, a sphere tracer."""

from .catalogue import sample_objects
from .objects import Objects
from .render import render

__all__ = ["Objects", "render", "sample_objects"]
