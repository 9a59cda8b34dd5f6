"""Diffusion models: Zero123, Stable Diffusion, noise schedules, loading. What makes them fast is in `hash3d.fast`."""
