"""Reuse in threestudio, on stubs with its guidances' and cameras' interfaces and its order of random numbers."""

import random
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from hash3d.threestudio import DATA, GUIDANCES, register
from tests.tiny_ldm import DiffusionWrapper, tiny_ldm


class Guidance:
    """As `Zero123Guidance`: a hybrid LDM model, its own timesteps, branches [unconditional, conditional]."""

    @dataclass
    class Config:
        cond_image_path: str = "a.png"

    def __init__(self, **settings):
        self.cfg = self.Config(**settings)
        self.min_step, self.max_step = 20, 980
        self.configure()

    def configure(self):
        self.model = SimpleNamespace(model=DiffusionWrapper(tiny_ldm(in_channels=8, channel_mult=(1, 1))))

    def __call__(self, rgb, elevation, azimuth, camera_distances, **_):
        t = torch.randint(self.min_step, self.max_step + 1, [len(rgb)], dtype=torch.long)
        x, context = torch.cat([rgb] * 2), torch.zeros(2 * len(rgb), 1, 24)
        return self.model.model(x, torch.cat([t] * 2), [torch.zeros_like(x)], [context]), t


class Cameras:
    """As `RandomCameraIterableDataset`."""

    def __init__(self, batch_size):
        self.batch_size, self.cfg = batch_size, SimpleNamespace(batch_uniform_azimuth=True)
        self.elevation_range, self.azimuth_range, self.camera_distance_range = [-10, 80], [-180, 180], [3.8, 3.8]

    def collate(self, _):
        def between(low, high, numbers):
            return numbers * (high - low) + low

        if random.random() < 0.5:
            elevation = between(*self.elevation_range, torch.rand(self.batch_size))
        else:
            sines = torch.deg2rad(torch.tensor(self.elevation_range)).sin()
            elevation = torch.rad2deg(torch.asin(between(*sines, torch.rand(self.batch_size))))
        places = (torch.rand(self.batch_size) + torch.arange(self.batch_size)) / self.batch_size
        distances = between(*self.camera_distance_range, torch.rand(self.batch_size))
        azimuth, other = between(*self.azimuth_range, places), torch.rand(self.batch_size, 3)
        return {"elevation": elevation, "azimuth": azimuth, "camera_distances": distances, "other": other}


class Data:
    """As `SingleImageDataModule`."""

    def __init__(self, cfg):
        self.cfg = dict(cfg)

    def setup(self, stage=None):
        self.train_dataset = SimpleNamespace(random_pose_generator=Cameras(self.cfg["batch_size"]))


@pytest.fixture
def modules():
    """What is registered, by name."""
    known = {**dict.fromkeys(GUIDANCES, Guidance), **dict.fromkeys(DATA, Data)}
    register(SimpleNamespace(find=known.__getitem__, register=lambda name: lambda kind: known.update({name: kind})))
    return known


def cameras_of(modules, batch_size=2, **visits):
    data = modules["hash3d-single-image-datamodule"]({"batch_size": batch_size, **visits})
    data.setup("fit")
    return data.train_dataset.random_pose_generator


def test_most_passes_are_shallow_and_off_is_the_base(modules):
    torch.manual_seed(0)
    guidance, cameras = modules["hash3d-zero123-guidance"](), cameras_of(modules, active_cells=1)
    for _ in range(8):
        batch = cameras.collate(None)
        _, timesteps = guidance(torch.randn(2, 4, 8, 8), **batch)
        assert torch.equal(timesteps, batch["hash3d_timesteps"])
    assert (guidance.features.statistics.full, guidance.features.statistics.shallow) == (4, 12)
    off = modules["hash3d-zero123-guidance"](reuse=False)
    assert off.features is None
    predictions = []
    for each, source in ((Guidance(), Cameras(2)), (off, cameras_of(modules, visits_per_cell=1))):
        torch.manual_seed(1)
        random.seed(1)
        predictions.append(each(torch.randn(2, 4, 8, 8), **source.collate(None))[0])
    assert torch.equal(*predictions)


def test_the_cameras_are_those_of_the_order_in_threestudios_ranges(modules):
    cameras = cameras_of(modules, batch_size=3)
    batches = [cameras.collate(None) for _ in range(100)]
    elevation, azimuth = (torch.cat([batch[name] for batch in batches]) for name in ("elevation", "azimuth"))
    assert -10 <= elevation.min() < 0
    assert 60 < elevation.max() <= 80
    assert -180 <= azimuth.min() < -120
    assert 120 < azimuth.max() <= 180
    assert torch.equal(batches[0]["camera_distances"], torch.full((3,), 3.8))
    assert len({float(batch["other"][0, 0]) for batch in batches}) == 100, "what is not chosen stays random"


def test_the_range_of_timesteps_is_the_guidances(modules):
    guidance, cameras = modules["hash3d-zero123-guidance"](), cameras_of(modules)
    guidance.min_step, guidance.max_step = 300, 350
    for _ in range(20):
        batch = cameras.collate(None)
        _, timesteps = guidance(torch.randn(2, 4, 8, 8), **batch)
        assert 300 <= timesteps.min() <= timesteps.max() <= 350
