"""Benchmarks, one question each: `python -m research.benchmarks.NAME` from the repository root writes its page."""
