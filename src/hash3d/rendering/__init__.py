"""From a scene and cameras to images."""

from .base import Render
from .splat import SplatRenderer, SplatRendererConfig, render_gaussians, screen_probe

__all__ = ["Render", "SplatRenderer", "SplatRendererConfig", "render_gaussians", "screen_probe"]
