"""Pose numbers and features, by hand."""

import math

import pytest
import torch

from hash3d.diffusion.pose import pose_features, pose_numbers


def poses(variant="stable", azimuths=(30.0, -90.0)):
    return pose_numbers(
        elevation=torch.tensor([40.0] * len(azimuths)),
        relative_azimuth=torch.tensor(azimuths),
        relative_radius=torch.tensor([0.3] * len(azimuths)),
        reference_elevation=10.0,
        variant=variant,
    )


@pytest.mark.parametrize(("variant", "fourth"), [("xl", 0.3), ("stable", math.radians(80))])
def test_pose_numbers_by_hand(variant, fourth):
    """Polar angles 50 and 80: a step of -30. Stable's fourth number is the polar angle of the reference view."""
    expected = [
        [math.radians(-30), math.sin(math.radians(30)), math.cos(math.radians(30)), fourth],
        [math.radians(-30), -1, 0, fourth],
    ]
    torch.testing.assert_close(poses(variant), torch.tensor(expected))


def test_the_reference_elevation_may_be_one_for_each():
    angles = {"elevation": torch.zeros(2), "relative_azimuth": torch.zeros(2), "relative_radius": torch.zeros(2)}
    found = pose_numbers(**angles, reference_elevation=torch.tensor([0.0, 30.0]), variant="stable")
    torch.testing.assert_close(found[:, 0], torch.deg2rad(torch.tensor([0.0, 30.0])))
    torch.testing.assert_close(found[:, 3], torch.deg2rad(torch.tensor([90.0, 60.0])))


def test_pose_features_by_hand_and_periodic():
    found = pose_features(poses())
    azimuth, polar, fourth = math.radians(30), math.radians(-30), math.radians(80)
    expected = [math.sin(n * azimuth) for n in (1, 2, 3, 4)] + [math.cos(n * azimuth) for n in (1, 2, 3, 4)]
    expected += [polar, fourth, math.sin(polar), math.sin(fourth), math.cos(polar), math.cos(fourth)]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)
    torch.testing.assert_close(
        pose_features(poses(azimuths=(-180.0, 350.0))), pose_features(poses(azimuths=(180.0, -10.0))), rtol=0, atol=1e-5
    )
