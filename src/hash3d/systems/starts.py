"""Which shape Gaussians start from."""

from pathlib import Path

from hash3d.representations.point_start import GrowthConfig, PointStartConfig
from hash3d.representations.shap_e import ShapEConfig

MINI_SIZE = 0.5
"""Of a start at mini scale: the embedded priors' things lie in a ball of this radius."""


def read_start(
    path: Path | None, prompt: str, growth: GrowthConfig | None, *, size: float
) -> PointStartConfig | ShapEConfig | None:
    """A Shap-E folder asked for the prompt, or a file of points or of a mesh. None stays None.

    `size` is in scene units: half a side of the cube that holds Shap-E's shapes, or how far a file's points reach from
    the origin.
    """
    if path is None:
        return None
    if path.is_dir():
        return ShapEConfig(folder=path, prompt=prompt, scale=size, growth=growth)
    return PointStartConfig(file=path, radius=size, growth=growth)
