"""The procedural world, and the training and the judges of the embedded priors. Not in the wheel."""
