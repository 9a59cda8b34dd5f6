"""Parameters of 3D objects; no rendering."""
