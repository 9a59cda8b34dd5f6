"""Reuse in threestudio (https://github.com/threestudio-project/threestudio, read at 28d9d80), without a fork of it.

`hash3d threestudio install PATH` writes a folder below its `custom/`, which calls `register`. Then a configuration is
switched on by two names, as in `launch.py ... system.guidance_type=hash3d-zero123-guidance
data_type=hash3d-single-image-datamodule`.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from hash3d.cache import Hash3DConfig
from hash3d.recipes.revisits import Revisits, Views
from hash3d.unet import apply_hash3d

GUIDANCES = ("zero123-guidance", "stable-zero123-guidance", "stable-diffusion-guidance")
DATA = ("random-camera-datamodule", "single-image-datamodule")
TIMES = [20, 980]
"""The lowest and highest timestep that the guidance of this process takes now."""


def register(threestudio: Any) -> None:
    """Register each guidance and each data module once more, by its name with `hash3d-` before it."""
    for names, make in ((GUIDANCES, make_guidance), (DATA, make_data)):
        for name in names:
            threestudio.register(f"hash3d-{name}")(make(threestudio.find(name)))


def make_guidance(base: Any) -> Any:
    """A guidance of threestudio that reuses features.

    Its configuration has `reuse` (False: as without) and `cache`, fields of `Hash3DConfig`, besides the base's.
    """

    class Guidance(base):  # type: ignore[misc]
        @dataclass
        class Config(base.Config):  # type: ignore[misc]
            reuse: bool = True
            cache: dict = field(default_factory=dict)  # type: ignore[type-arg]

        def configure(self) -> None:
            super().configure()
            unet = self.unet if hasattr(self, "unet") else self.model.model.diffusion_model
            self.features = apply_hash3d(unet, Hash3DConfig(**self.cfg.cache)) if self.cfg.reuse else None

        def __call__(self, rgb: Tensor, *args: Any, hash3d_timesteps: Tensor | None = None, **batch: Any) -> Any:
            TIMES[:] = self.min_step, self.max_step
            timesteps = None if hash3d_timesteps is None else hash3d_timesteps.clamp(*TIMES)
            view: Any = nullcontext()
            if self.features is not None:
                prompts = args[0] if args else batch.get("prompt_utils")
                view = self.features.view(
                    elevation=batch["elevation"],
                    azimuth=batch["azimuth"],
                    radius=batch["camera_distances"],
                    timestep=timesteps,
                    scope=getattr(prompts, "prompt", None) or getattr(self.cfg, "cond_image_path", ""),
                )
            given = nullcontext() if timesteps is None else patch.object(torch, "randint", lambda *_, **__: timesteps)
            with view, given:
                return super().__call__(rgb, *args, **batch)

    Guidance.__name__ = Guidance.__qualname__ = f"Hash3D{base.__name__}"
    return Guidance


def make_data(base: Any) -> Any:
    """A data module of threestudio whose random cameras come back to cells.

    Its configuration has `visits_per_cell` (1: as without) and `active_cells` (see `Revisits`) besides the base's.
    """

    class Data(base):  # type: ignore[misc]
        def __init__(self, cfg: Any = None) -> None:
            given = dict(cfg or {})
            self.visits = {
                name: given.pop(name, default) for name, default in (("visits_per_cell", 4), ("active_cells", 8))
            }
            super().__init__(given)

        def setup(self, stage: Any = None) -> None:
            super().setup(stage)
            dataset = getattr(self, "train_dataset", None)
            cameras = getattr(dataset, "random_pose_generator", dataset)
            if stage in (None, "fit") and cameras is not None and self.visits["visits_per_cell"] > 1:
                cameras.collate = RevisitingCameras(cameras, **self.visits)

    Data.__name__ = Data.__qualname__ = f"Hash3D{base.__name__}"
    return Data


class RevisitingCameras:
    """Stands in the place of the `collate` of threestudio's random cameras, which it calls with chosen uniform numbers.

    Elevations are uniform in degrees or on the sphere with the same odds, azimuths and distances uniform, as there.
    """

    def __init__(self, cameras: Any, **visits: Any) -> None:
        self.cameras, self.inner, self.revisits = cameras, cameras.collate, Revisits(self._sample, **visits)
        self.generator = torch.Generator().manual_seed(random.getrandbits(32))

    def __call__(self, batch: Any) -> dict[str, Any]:
        """A batch of threestudio, with the timesteps that belong to it."""
        cameras = self.cameras
        count = cameras.batch_size
        views = self.revisits.next(count, self.generator)
        chosen = [
            (views[name] - low) / (high - low or 1.0)
            for name, (low, high) in zip(("elevation", "azimuth", "radius"), self._ranges(), strict=True)
        ]
        if cameras.cfg.batch_uniform_azimuth:
            chosen[1] = chosen[1] * count - torch.arange(count)
        with drawing_uniforms(chosen):
            return {**self.inner(batch), "hash3d_timesteps": views["timestep"]}

    def _ranges(self) -> list[Any]:
        cameras = self.cameras
        return [cameras.elevation_range, cameras.azimuth_range, cameras.camera_distance_range]

    def _sample(self, count: int, generator: torch.Generator) -> Views:
        uniform = torch.rand(5, count, generator=generator)
        (low, high), azimuth, radius = (torch.tensor(each, dtype=torch.float32) for each in self._ranges())
        first, last = torch.deg2rad(low).sin(), torch.deg2rad(high).sin()
        on_sphere = torch.rad2deg(torch.asin(first + uniform[0] * (last - first)))
        return {
            "elevation": torch.where(uniform[4] < 0.5, low + uniform[0] * (high - low), on_sphere),
            "azimuth": azimuth[0] + uniform[1] * (azimuth[1] - azimuth[0]),
            "radius": radius[0] + uniform[2] * (radius[1] - radius[0]),
            "timestep": TIMES[0] + (uniform[3] * (TIMES[1] + 1 - TIMES[0])).long(),
        }


@contextmanager
def drawing_uniforms(numbers: list[Tensor]) -> Iterator[None]:
    """Give the next calls of `torch.rand` these numbers, and let elevations be uniform in degrees, as these are."""
    waiting, draw = list(numbers), torch.rand
    with (
        patch.object(torch, "rand", lambda *size, **more: waiting.pop(0) if waiting else draw(*size, **more)),
        patch.object(random, "random", lambda: 0.0),
    ):
        yield
