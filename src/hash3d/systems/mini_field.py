"""The field that the systems of fields share at mini scale."""

from hash3d.meshing.isosurface import IsosurfaceConfig
from hash3d.representations.encodings import HashGridConfig
from hash3d.representations.nerf import HashGridNerfConfig

MINI_GRID = HashGridConfig(levels=5, log2_entries=14, base_resolution=8, finest_resolution=64)
"""An encoding that two cores can train."""

MINI_SURFACE = IsosurfaceConfig(level=3.0, resolution=64)
"""The exported mesh of such a field: some 20,000 faces, unwrapped in seconds."""


def mini_field(steps: int, lr: float = 0.01) -> HashGridNerfConfig:
    """A field that fits the embedded priors' scenes, and is learnt in a few hundred steps; fewer want a larger `lr`.

    The exponential makes a surface of the fog that the softplus would leave after so few steps, and the blob that
    falls without end leaves the cells around it empty, for rays to skip.
    """
    return HashGridNerfConfig(
        encoding=MINI_GRID,
        radius=0.6,
        density_activation="trunc_exp",
        blob="magic3d",
        blob_scale=4.0,
        blob_std=0.4,
        encoding_lr=lr,
        density_lr=lr,
        color_lr=lr,
        lr_decay=0.1,
        lr_steps=steps,
        adam_eps=1e-8,
    )
