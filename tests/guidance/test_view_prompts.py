"""View words against a rule written out anew."""

import torch

from hash3d.guidance.view_prompts import VIEWS, view_index, view_prompt


def named(elevation: float, azimuth: float) -> str:
    """The nearest of the four sides, unless seen from high above."""
    if elevation > 60:
        return "overhead view"
    distance = {
        "front view": min(abs(azimuth - turn) for turn in range(-720, 721, 360)),
        "back view": min(abs(azimuth - turn) for turn in range(-900, 901, 360)),
    }
    return next((view for view, angle in distance.items() if angle < 45), "side view")


def test_the_index_names_the_side_that_is_seen():
    elevation, azimuth = torch.meshgrid(torch.arange(-80.0, 91.0, 5), torch.arange(-400.0, 401.0, 2.5), indexing="ij")
    elevation, azimuth = elevation.flatten(), azimuth.flatten()
    expected = [named(*angles) for angles in zip(elevation.tolist(), azimuth.tolist(), strict=True)]
    assert [VIEWS[index] for index in view_index(elevation, azimuth).tolist()] == expected
    assert set(expected) == set(VIEWS)


def test_a_prompt_names_its_view():
    assert view_prompt("a red mug", 2) == "a red mug, back view"
