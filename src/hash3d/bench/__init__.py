"""How fast a system is, and how fast it could be: paired and interleaved runs on one diffusion model."""
