"""The parameters of a scene: Gaussians, fields and meshes, how they start and change. Nothing here renders."""
