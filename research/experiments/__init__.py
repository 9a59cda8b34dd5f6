"""Experiments as commands: paired runs, their rows, their pages. `python -m research.experiments STUDY ...`."""
