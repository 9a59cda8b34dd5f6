"""Files that other programs open."""

FORMATS = {
    "glb": "model.glb", "obj": "model.obj", "ply": "splats.ply", "splat": "splats.splat", "splat-glb": "splats.glb",
    "mp4": "turntable.mp4", "sheet": "sheet.png",
}  # fmt: skip
"""The formats of `hash3d export`, and the names of their files in a run's folder."""
