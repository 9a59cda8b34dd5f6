"""Benchmarks, one question each: modules that `python -m` runs from the repository root to write a page."""
