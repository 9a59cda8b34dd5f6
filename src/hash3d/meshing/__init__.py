"""From fields, Gaussians and meshes to textured meshes."""
