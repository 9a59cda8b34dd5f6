"""Renderers: a scene and cameras to pictures."""
