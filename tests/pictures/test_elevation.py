"""An elevation is the mean of what the classifier thinks, and the shipped one tells how high a box was seen from."""

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image

from hash3d.cameras import Cameras
from hash3d.evaluation.truth import fit_mesh, render_view
from hash3d.pictures import PictureError
from hash3d.pictures.classifier import ImageClassifier
from hash3d.pictures.elevation import estimate_elevation, estimate_elevations, mean_elevations
from hash3d.representations.mesh_file import read_mesh


def test_the_estimate_is_the_mean():
    classifier = ImageClassifier((8,), 16, (3,)).eval()
    torch.nn.init.zeros_(classifier.head.weight)
    classifier.head.bias.data = torch.tensor([0.2, 0.3, 0.5]).log()
    found = mean_elevations(classifier, [0.0, 10.0, 40.0], torch.zeros(2, 3, 16, 16))
    assert found == pytest.approx(torch.full((2,), 23.0), abs=1e-4)


@pytest.mark.parametrize("elevation", [0.0, 15.0, 30.0])
def test_a_plain_box_is_estimated_to_six_degrees(elevation, tmp_path):
    """Rendered from its mesh, with other light than in training; and the same from a file."""
    box = trimesh.creation.box((0.8, 1.0, 0.6))
    box.visual.face_colors = (200, 60, 40, 255)
    box.export(tmp_path / "box.ply")
    file = read_mesh(tmp_path / "box.ply")
    camera = Cameras.orbit(elevation=elevation, azimuth=30.0, radius=1.5, fov_y=49.1, size=128)
    view = render_view(file, fit_mesh(file, "sphere"), camera, 0.6)
    on_white = view[..., :3] * view[..., 3:] + 1 - view[..., 3:]
    found = float(estimate_elevations(on_white.permute(2, 0, 1)[None] * 2 - 1))
    assert found == pytest.approx(elevation, abs=6.0)
    Image.fromarray((view * 255).round().to(torch.uint8).numpy()).save(tmp_path / "box.png")
    assert estimate_elevation(tmp_path / "box.png", "keep") == pytest.approx(found, abs=1.0)


def test_what_is_no_picture_is_refused(tmp_path):
    Image.fromarray(np.full((64, 64, 4), 0, dtype=np.uint8)).save(tmp_path / "empty.png")
    with pytest.raises(PictureError):
        estimate_elevation(tmp_path / "empty.png")
