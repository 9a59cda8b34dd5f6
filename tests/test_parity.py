"""Formulas that docs/parity.md lists, stated from the papers and apart from the package's own code."""

import dataclasses
import math
import random
from collections import deque

import pytest
import torch

from hash3d import apply_hash3d
from hash3d.cache.config import PRESETS
from hash3d.cameras import Cameras
from hash3d.diffusion.noise import NoiseSchedule
from hash3d.diffusion.pose import pose_numbers
from hash3d.guidance.denoise import ddim_step
from hash3d.systems import dreamgaussian
from tests.tiny_models import small_unet, tiny_unet

ELEVATIONS, AZIMUTHS, RADII = [30.0, -10.0, 80.0, 0.0], [0.0, 90.0, -135.0, 179.0], [2.0, 3.8, 1.5, 1.0]


@pytest.fixture
def cameras():
    return Cameras.orbit(elevation=ELEVATIONS, azimuth=AZIMUTHS, radius=RADII, fov_y=49.1, size=256)


def test_eyes_are_threestudio_s_in_its_frame_with_z_up(cameras):
    """There +x is the front, azimuth grows from +x to +y; our (z, x, y) are its axes, a rotation."""
    for eye, elevation, azimuth, radius in zip(cameras.eyes, ELEVATIONS, AZIMUTHS, RADII, strict=True):
        e, a = math.radians(elevation), math.radians(azimuth)
        theirs = [radius * math.cos(e) * math.cos(a), radius * math.cos(e) * math.sin(a), radius * math.sin(e)]
        torch.testing.assert_close(eye[[2, 0, 1]], torch.tensor(theirs), rtol=0, atol=1e-6)


def test_eyes_are_dreamgaussian_s_with_its_elevation_counted_down(cameras):
    """There +y is up too, azimuth 0 is +z and 90 is +x, and a camera above has a negative elevation."""
    for eye, elevation, azimuth, radius in zip(cameras.eyes, ELEVATIONS, AZIMUTHS, RADII, strict=True):
        down, a = math.radians(-elevation), math.radians(azimuth)
        theirs = [
            radius * math.cos(down) * math.sin(a),
            -radius * math.sin(down),
            radius * math.cos(down) * math.cos(a),
        ]
        torch.testing.assert_close(eye, torch.tensor(theirs), rtol=0, atol=1e-6)


def test_the_focal_length_is_half_the_height_over_the_tangent_of_half_the_angle(cameras):
    torch.testing.assert_close(cameras.K[:, 1, 1], torch.full((4,), 128.0 / math.tan(math.radians(49.1) / 2.0)))


def test_pose_numbers_are_dreamgaussian_s():
    """Radians of [-(change of the elevation), sin, cos of the azimuth, 90 - elevation of the image], Stable-Zero123."""
    ours = pose_numbers(
        elevation=torch.tensor([35.0]),
        relative_azimuth=torch.tensor([-60.0]),
        relative_radius=torch.tensor([0.0]),
        reference_elevation=5.0,
        variant="stable",
    )
    theirs = [math.radians(-30.0), -math.sqrt(0.75), 0.5, math.radians(85.0)]
    torch.testing.assert_close(ours, torch.tensor([theirs]), rtol=0, atol=1e-6)


def stable_diffusion_alphas():
    """abar of betas whose square roots are linear from 0.00085 to 0.012 (Rombach et al. 2022)."""
    alphas, product = [], 1.0
    for step in range(1000):
        root = math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * step / 999
        product *= 1.0 - root * root
        alphas.append(product)
    return alphas


def test_noised_latents_and_weights_are_the_papers_at_every_timestep():
    """Ho et al. 2020, eq. 4; w(t) of Poole et al. 2022, of threestudio and of the released Hash3D."""
    alphas = stable_diffusion_alphas()
    schedule, every = NoiseSchedule(), torch.arange(1000)
    abar = torch.tensor(alphas, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    latents, noise = torch.randn(2, 1000, 4, 2, 2, generator=generator, dtype=torch.float64)
    expected = abar.sqrt().view(-1, 1, 1, 1) * latents + (1.0 - abar).sqrt().view(-1, 1, 1, 1) * noise
    noisy = schedule.add_noise(latents.float(), noise.float(), every)
    torch.testing.assert_close(noisy.double(), expected, rtol=0, atol=1e-5)
    formulas = {
        "sds": 1.0 - abar,
        "sqrt": 1.0 - abar.sqrt(),
        "uniform": torch.ones_like(abar),
    }
    for name, weights in formulas.items():
        torch.testing.assert_close(schedule.weights(every, name).double(), weights, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("start", "stride"), [(181, 20), (961, 20), (1, 20)])
def test_a_ddim_step_is_the_paper_s(start, stride):
    """Song et al. 2021, eq. 12 with sigma 0: the predicted latents, noised anew by the predicted noise."""
    alphas = stable_diffusion_alphas()
    now, then = alphas[start], alphas[max(start - stride, 0)]
    generator = torch.Generator().manual_seed(1)
    noisy, noise = torch.randn(2, 1, 4, 2, 2, generator=generator, dtype=torch.float64)
    clean = (noisy - math.sqrt(1.0 - now) * noise) / math.sqrt(now)
    expected = math.sqrt(then) * clean + math.sqrt(1.0 - then) * noise
    step = ddim_step(NoiseSchedule(), noise.float(), noisy.float(), start, stride)
    torch.testing.assert_close(step.double(), expected, rtol=0, atol=1e-5)


def test_dreamgaussian_s_timestep_falls_as_there_and_is_rounded_down():
    """There round((1 - step / 500) * 1000) in [20, 980]; ours is the same or one less."""
    guidance = dreamgaussian.supplement()[0].guidance
    for step in range(500):
        theirs = min(max(round((1.0 - step / 500) * 1000), 20), 980)
        low, high = guidance.timestep_range(step, 1000)
        assert low == high
        assert theirs - low in (0, 1)


class ReleasedTable:
    """The released code's table and its use, in noise mode: 200 queues of 3, one coin a call, all views or none."""

    def __init__(self, probability, seed):
        self.queues = [deque(maxlen=3) for _ in range(200)]
        self.probability, self.random = probability, random.Random(seed)

    def bucket(self, t, elevation, azimuth, distance):
        i, j, k, l = (  # noqa: E741
            math.floor(value / size)
            for value, size in zip((t, elevation, azimuth, distance), (20, 20, 0.1, 10), strict=True)
        )
        return (i + 73856093 * j + 19349669 * k + 83492791 * l) % 200

    def call(self, keys, latents, full):
        """The prediction [S B ...] of B views: blended where every view finds entries, else full, which is stored."""
        queues = [self.queues[self.bucket(*key)] for key in keys]
        if self.random.random() < self.probability and all(queues):
            blends = []
            for query, queue in zip(latents, queues, strict=True):
                weights = torch.tensor([-float((query - stored).norm()) for stored, _ in queue]).softmax(0)
                blends.append(sum(weight * values for weight, (_, values) in zip(weights, queue, strict=True)))
            return torch.stack(blends, dim=1), True
        for row, queue in enumerate(queues):
            queue.append((latents[row], full[:, row]))
        return full, False


def test_released_is_the_released_table_call_by_call():
    """Two branches of two random views; in noise mode a hit is the blend itself. Views meet by collisions alone."""
    config = dataclasses.replace(PRESETS["released"], mode="noise", reuse_probability=0.9)
    plain, hooked = (small_unet(sample_size=8) for _ in range(2))
    hooked.load_state_dict(plain.state_dict())
    model = ReleasedTable(0.9, seed=config.seed)
    cache = apply_hash3d(hooked, config)
    generator = torch.Generator().manual_seed(2)
    tokens = torch.randn(2, 3, plain.config.cross_attention_dim, generator=generator).repeat_interleave(2, dim=0)
    hits = []
    with torch.no_grad():
        for _ in range(120):
            timestep = int(torch.randint(20, 981, (), generator=generator))
            shares = torch.rand(3, 2, generator=generator)
            elevations, azimuths = (90.0 * shares[0] - 10.0).tolist(), (360.0 * shares[1] - 180.0).tolist()
            radii = (15.0 * shares[2]).tolist()
            size = plain.config.sample_size
            latents = torch.randn(2, plain.config.in_channels, size, size, generator=generator)
            inputs = (torch.cat([latents] * 2), torch.tensor(timestep), tokens)
            full = plain(*inputs).sample.unflatten(0, (2, 2))
            keys = [(timestep, *view) for view in zip(elevations, azimuths, radii, strict=True)]
            expected, hit = model.call(keys, latents, full)
            with cache.view(elevation=elevations, azimuth=azimuths, radius=radii, timestep=timestep):
                found = hooked(*inputs).sample.unflatten(0, (2, 2))
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
            hits.append(hit)
    assert 15 < sum(hits) < 100
    assert cache.statistics.reuse_share == pytest.approx(sum(hits) / len(hits))


@pytest.mark.parametrize("interval", [1, 2, 5])
def test_deepcache_runs_in_full_at_every_nth_step_of_a_sampler(interval):
    """Ma et al. 2024, section 3.3: steps 0, N, 2 N, ... are full, the others take the feature of the last full one."""
    unet = tiny_unet()
    cache = apply_hash3d(unet, dataclasses.replace(PRESETS["deepcache"], interval=interval))
    shallow = []
    with torch.no_grad():
        for step in range(11):
            latents = torch.randn(1, unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
            before = cache.statistics.shallow
            with cache.view(elevation=0.0, azimuth=37.0 * step, radius=1.5, timestep=900 - step):
                unet(latents, torch.tensor(900 - step), torch.zeros(1, 3, unet.config.cross_attention_dim))
            shallow.append(cache.statistics.shallow > before)
    assert shallow == [step % interval != 0 for step in range(11)]
