"""The training loop, the reference view, and the run folder. Losses are in `hash3d.scenes`."""
