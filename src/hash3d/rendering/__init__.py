"""Render a scene from cameras: Gaussians, fields and meshes."""
