"""Pose numbers and features, by hand; and how the convention of a folder is found out."""

import json
import math
import warnings
from pathlib import Path

import pytest
import torch

from hash3d.diffusion.pose import decide_pose_variant, pose_features, pose_numbers


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


STABLE, XL = "ashawkey/stable-zero123-diffusers", "ashawkey/zero123-xl-diffusers"


def decide(folder, **known):
    """The decision, which must be sure: a warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return decide_pose_variant(folder, **known)


def make_snapshot(cache: Path, name: str) -> Path:
    """The folder that the hub's cache makes for a repository: its last name is a commit's hash."""
    folder = cache / f"models--{name.replace('/', '--')}" / "snapshots" / "0123abcd"
    folder.mkdir(parents=True)
    return folder


def test_the_surest_source_wins(tmp_path):
    folder = make_snapshot(tmp_path, STABLE)
    everything = {"option": "xl", "stated": "stable", "name": XL}
    assert decide(folder, **everything) == ("xl", "stated by the option")
    assert decide(folder, **{**everything, "option": None}) == (
        "stable",
        "stated by clip_camera_projection/config.json",
    )
    assert decide(folder, name=XL) == ("xl", f"by the hub name, {XL}")
    assert decide(folder) == ("stable", f"by the hub cache's folder, {STABLE}")


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        (STABLE, "stable"),
        (XL, "xl"),
        ("stabilityai/stable-zero123", "stable"),
        ("stable-models/zero123-xl", "xl"),
        ("stable-diffusion/zero123", "xl"),
        ("someone/Stable_Zero123", "stable"),
        ("someone/stable-diffusion-zero123", "xl"),
        ("someone/unstable-zero123", "xl"),
        ("someone/zero-1-to-3", "xl"),
    ],
)
def test_names_on_the_hub(name, variant, tmp_path):
    assert decide(tmp_path, name=name)[0] == variant
    assert decide(make_snapshot(tmp_path, name))[0] == variant


def test_links_are_followed(tmp_path):
    snapshot = make_snapshot(tmp_path / "cache", STABLE)
    (tmp_path / "zero123-xl").symlink_to(snapshot)
    assert decide(tmp_path / "zero123-xl")[0] == "stable"
    # A folder of links into the cache, as `cp -rs` makes it.
    blob = snapshot.parent.parent / "blobs" / "f00"
    blob.parent.mkdir()
    blob.write_text("{}")
    linked = tmp_path / "linked" / "clip_camera_projection" / "config.json"
    linked.parent.mkdir(parents=True)
    linked.symlink_to(blob)
    assert decide(tmp_path / "linked")[0] == "stable"


@pytest.mark.parametrize("file", ["model_index.json", "unet/config.json", "clip_camera_projection/config.json"])
@pytest.mark.parametrize(("saved", "variant"), [(STABLE, "stable"), ("/data/stable/zero123-xl/unet", "xl")])
def test_the_name_it_was_saved_under(file, saved, variant, tmp_path):
    path = tmp_path / "stable-zero123" / file
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"_name_or_path": saved}))
    assert decide(tmp_path / "stable-zero123") == (variant, f"by _name_or_path of {file}, {saved}")


def test_the_remote_of_a_clone(tmp_path):
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text(f'[remote "origin"]\n\turl = https://huggingface.co/{STABLE}\n')
    assert decide(tmp_path)[0] == "stable"


@pytest.mark.parametrize(
    ("folder", "variant"), [("stable-zero123", "stable"), ("zero123-xl", "xl"), ("stable/prior", "xl"), ("other", "xl")]
)
def test_a_folders_name_alone_is_followed_with_a_warning(folder, variant, tmp_path, monkeypatch):
    """A local path of two names, given from its parent, is no hub name."""
    (tmp_path / folder).mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in (folder, None):
        with pytest.warns(UserWarning, match=f"Assumed '{variant}'.* Pass --pose stable or --pose xl"):
            found, reason = decide_pose_variant(tmp_path / folder, name=name)
        assert found == variant
        assert reason.startswith("assumed")


@pytest.mark.parametrize("known", [{"option": "XL"}, {"stated": "zero123"}])
def test_an_unknown_convention_is_refused(known, tmp_path):
    (value,) = known.values()
    with pytest.raises(ValueError, match=f"^Expected the pose variant xl or stable, but '{value}' is stated by"):
        decide(tmp_path, **known)
