"""The procedural world that the embedded priors are trained on: objects, textures, signed distances, a sphere tracer."""

from hash3d.priors.world.catalogue import draw_objects
from hash3d.priors.world.objects import Objects
from hash3d.priors.world.render import render

__all__ = ["Objects", "draw_objects", "render"]
