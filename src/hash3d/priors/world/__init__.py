"""The procedural world that the embedded priors learn from: objects, textures, distances, a sphere tracer."""

from hash3d.priors.world.catalogue import draw_objects
from hash3d.priors.world.objects import Objects
from hash3d.priors.world.render import render

__all__ = ["Objects", "draw_objects", "render"]
