"""The embedded priors: their procedural world, their training and their evaluation."""
