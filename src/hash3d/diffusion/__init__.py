"""Diffusion models and their acceleration; nothing three-dimensional."""
