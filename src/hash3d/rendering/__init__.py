"""From a scene and cameras to images."""

from hash3d.rendering.base import Render
from hash3d.rendering.splat import SplatRenderer, SplatRendererConfig, render_gaussians, screen_probe

__all__ = ["Render", "SplatRenderer", "SplatRendererConfig", "render_gaussians", "screen_probe"]
