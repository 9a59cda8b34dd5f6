"""Queries and stored entries from the states of a run."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hash3d.cameras import Cameras
from hash3d.guidance.zero123 import Zero123Guidance
from hash3d.rendering.base import Render
from hash3d.training.show import show_model
from hash3d.training.trainer import Trainer

from .estimates import NEAREST, Situation, fit_corrections, residuals
from .residuals import FullPass, Passes, cosine, relative_error
from .warp import warp_grid

AZIMUTHS, LATER = (0, 10, 20), (0, 50)
DEFAULT_AZIMUTH = 10
SECOND = 100
"""How much later than the query the second entry of a forecast is; the first as in `LATER`."""


@dataclass(frozen=True, kw_only=True)
class Gap:
    """How far entries lie from their query."""

    age: int
    """Optimisation steps since their scene."""
    azimuth: int
    """Degrees."""
    later: int
    """Diffusion steps; fewer where that would pass the last one."""


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A scene from V cameras."""

    cameras: Cameras
    render: Render
    latents: Float[Tensor, "V 4 h w"]


class State:
    """A run at one step. A batch is V random views x T timesteps x N noises, in this order.

    The entries of all gaps have one draw of noise in common, so that they differ by the gap alone.

    Args:
        trainer: the run, without a cache.
        passes: of its prior, at the cuts to compare.
        earlier: its scene `age` steps ago.
        generator: draws views and noise, on the CPU.
    """

    def __init__(
        self,
        trainer: Trainer,
        passes: Passes,
        earlier: nn.Module,
        *,
        age: int,
        views: int,
        noises: int,
        timesteps: Sequence[int],
        generator: torch.Generator,
    ) -> None:
        self.trainer, self.passes, self.age, self.generator = trainer, passes, age, generator
        self.scenes = {0: show_model(trainer.scene.model, trainer.stage), age: show_model(earlier, trainer.stage)}
        self.noises, self.grid = noises, (views, len(timesteps), noises)
        self.cameras = self.draw_cameras(views)
        self.rows = torch.arange(views).repeat_interleave(len(timesteps) * noises)
        self.timesteps = torch.tensor(timesteps).repeat_interleave(noises).repeat(views)
        self.noise, self.other_noise = (self.draw_noise(len(self.rows)) for _ in range(2))

    def draw_cameras(self, count: int) -> Cameras:
        """Views as the run draws them."""
        config, size = self.trainer.stage.cameras, self.passes.prior.image_size
        drawn = [config.build().sample(size, self.generator)[0] for _ in range(count)]
        elevation, azimuth = (torch.cat([getattr(one, name) for one in drawn]) for name in ("elevation", "azimuth"))
        return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=config.radius, fov_y=config.fov_y, size=size)

    def draw_noise(self, count: int) -> Float[Tensor, "count 4 h w"]:
        """Fresh noise."""
        size = self.passes.prior.unet.config.sample_size
        return torch.randn(count, 4, size, size, generator=self.generator)

    @torch.no_grad()
    def see(self, age: int, cameras: Cameras, azimuth: float = 0.0) -> Seen:
        """A scene from cameras turned by an azimuth."""
        turned = dataclasses.replace(cameras, azimuth=cameras.azimuth + azimuth)
        render = self.scenes[age](turned)
        latents = self.passes.prior.encode(render.color.permute(0, 3, 1, 2) * 2.0 - 1.0)
        return Seen(cameras=turned, render=render, latents=latents)

    def full(
        self, seen: Seen, rows: Int[Tensor, " B"], timesteps: Int[Tensor, " B"], noise: Float[Tensor, "B 4 h w"]
    ) -> FullPass:
        """A full pass of B noisy views, `rows` of those seen."""
        guidance = self.trainer.guidance
        assert isinstance(guidance, Zero123Guidance)
        with torch.no_grad():
            views = self.passes.noisy_views(
                seen.latents[rows.to(seen.latents.device)], noise, timesteps, guidance.condition.expand(len(rows)),
                guidance.pose(seen.cameras)[rows],
            )  # fmt: skip
        return self.passes.full(views)

    def earlier_passes(self) -> FullPass:
        """What the run may have kept: random views and timesteps of the earlier scene, each with two noises."""
        count = self.grid[0] * self.noises
        seen = self.see(self.age, self.draw_cameras(count))
        low, high = int(self.timesteps.min()), int(self.timesteps.max())
        timesteps = torch.randint(low, high + 1, (count,), generator=self.generator)
        return self.full(seen, torch.arange(count).repeat(2), timesteps.repeat(2), self.draw_noise(2 * count))

    def situation(
        self, gap: Gap, seen: Seen, query: FullPass, target: Seen, corrections: dict[int, Tensor]
    ) -> Situation:
        """What the estimators may use across a gap: `seen` are the entries' views, `target` the query's."""
        last = self.passes.prior.schedule.num_timesteps - 1
        later = (self.timesteps + gap.later).clamp(max=last)
        second = (self.timesteps + SECOND).clamp(max=last)
        grids = None
        if gap.azimuth:
            rows = self.rows.to(target.latents.device)
            sizes = {cut: (joint.feature.shape[-2], joint.feature.shape[-1]) for cut, joint in query.joints.items()}
            grids = {
                cut: warp_grid(target.render, target.cameras, seen.cameras, size)[rows] for cut, size in sizes.items()
            }
        return Situation(
            query=query,
            entries=self.full(seen, self.rows, later, self.other_noise),
            same_noise=self.full(seen, self.rows, later, self.noise),
            second=self.full(seen, self.rows, second, self.other_noise) if gap.later else None,
            grids=grids,
            corrections=corrections,
            noises=self.noises,
        )

    def compare(self) -> Iterator[tuple[str, int, Gap, Float[Tensor, "T 4"]]]:
        """Estimator, cut, gap and the `figures`: everything at the default cut, at the others the default azimuth."""
        target = self.see(0, self.cameras)
        query = self.full(target, self.rows, self.timesteps, self.noise)
        true, default = self.passes.residual(query.views, query.prediction), self.passes.default_cut
        corrections = fit_corrections(self.earlier_passes())
        for azimuth in AZIMUTHS:
            present, seen = (self.see(age, self.cameras, azimuth) for age in (0, self.age))
            entries = self.full(present, self.rows, self.timesteps, self.other_noise)
            prediction = self.passes.shallow(query.views, default, entries.joints[default].feature)
            figures = self.figures(self.passes.residual(query.views, prediction), true)
            yield NEAREST, default, Gap(age=0, azimuth=azimuth, later=0), figures
            for later in LATER:
                gap = Gap(age=self.age, azimuth=azimuth, later=later)
                situation = self.situation(gap, seen, query, target, corrections)
                for cut in query.joints if azimuth == DEFAULT_AZIMUTH else [default]:
                    for name, residual in residuals(self.passes, situation, cut):
                        yield name, cut, gap, self.figures(residual, true)

    def figures(self, residual: Float[Tensor, "B 4 h w"], true: Float[Tensor, "B 4 h w"]) -> Float[Tensor, "T 4"]:
        """By timestep: cosine and relative error of the residual, and both of its mean over the noises."""
        one = [measure(residual, true).unflatten(0, self.grid).mean((0, 2)) for measure in (cosine, relative_error)]
        mean, true_mean = (each.float().unflatten(0, (-1, self.noises)).mean(1) for each in (residual, true))
        bias = [measure(mean, true_mean).unflatten(0, self.grid[:2]).mean(0) for measure in (cosine, relative_error)]
        return torch.stack([*one, *bias], dim=-1).cpu()
