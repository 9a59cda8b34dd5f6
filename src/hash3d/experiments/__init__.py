"""Experiments as commands: paired runs, their rows, their pages. `python -m hash3d.experiments STUDY ...`."""
