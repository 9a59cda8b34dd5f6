"""Which shape Gaussians start from."""

from pathlib import Path

from hash3d.representations.point_start import GrowthConfig, PointStartConfig
from hash3d.representations.shap_e import ShapEConfig


def read_start(
    path: Path | None, prompt: str, growth: GrowthConfig | None, *, radius: float = 0.5
) -> PointStartConfig | ShapEConfig | None:
    """A Shap-E folder asked for the prompt, or a file of points or of a mesh, fitted to `radius`. None stays None."""
    if path is None:
        return None
    if path.is_dir():
        return ShapEConfig(folder=path, prompt=prompt, growth=growth)
    return PointStartConfig(file=path, radius=radius, growth=growth)
