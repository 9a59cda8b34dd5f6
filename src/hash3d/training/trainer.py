"""The one loop: cameras, render, guidances, losses, backward, optimizer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hash3d.cache import CacheConfig, FeatureCache
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.fast.engine import Engine
from hash3d.guidance.base import Guidance, GuidanceConfig, GuidanceInputs, GuidanceOutput
from hash3d.pictures import FramedPicture
from hash3d.recipes.recipe import Recipe
from hash3d.rendering.base import Render
from hash3d.scenes.build import build_model, build_scene
from hash3d.scenes.show import white_and_black
from hash3d.schedules import Schedule
from hash3d.stopwatch import Stopwatch
from hash3d.transfer import to_device
from hash3d.unet import accelerate_unet, apply_hash3d, remove_hash3d

from .late_metrics import Metrics
from .reference import Reference
from .watch import PREFIX, Watch, step_if_finite

GENERATORS = ("cameras", "noise", "initialisation", "rendering")
STAGE_SEEDS = 1_000_003
"""Between the seeds of two stages."""
NUM_TIMESTEPS = 1000
"""Of a guidance without a diffusion model."""


@dataclass
class ActiveGuidance:
    """A guidance of the stage at work, with its own diffusion model and cache."""

    config: GuidanceConfig
    prior: LatentPrior | None
    cache: FeatureCache | None
    guide: Guidance
    passes: int = 0
    """U-Net passes so far, counted per view."""

    def timestep_range(self, step: int) -> tuple[int, int]:
        """The lowest and highest timestep at a step, both included."""
        return self.config.timestep_range(step, self.prior.schedule.num_timesteps if self.prior else NUM_TIMESTEPS)

    def count_passes(self) -> tuple[int, int]:
        """Full and shallow U-Net passes so far; without a cache all are full."""
        if self.cache is None:
            return self.passes, 0
        return self.cache.statistics.full, self.cache.statistics.shallow


class Trainer:
    """Runs a stage of a recipe, one `step()` at a time.

    One seed makes four generators (cameras and timesteps, noise, initialisation and densification, rendering), and the
    cache has one of its own, so that switching the cache on or off changes no camera and no noise.

    Args:
        recipe: what to run.
        priors: the recipe's diffusion models by the names of their guidances, on the device of the run.
        picture: the reference image in the prior's framing, at least as large as the largest reference view; None if
            the run starts from a text.
        number: which of the recipe's stages.
        previous: the model that the stage before made; a second stage without it waits for `load_state_dict`.
        stopwatch: goes on; None starts one.
        engine: how the diffusion models run; see `hash3d.fast.engine`.
        device: where to optimise; None is where the first prior is, without any the CPU.
    """

    def __init__(
        self,
        recipe: Recipe,
        priors: Mapping[str, LatentPrior],
        picture: FramedPicture | None,
        *,
        number: int = 0,
        previous: nn.Module | None = None,
        stopwatch: Stopwatch | None = None,
        engine: Engine = "auto",
        device: torch.device | None = None,
    ) -> None:
        self.engine: Engine = engine
        self.recipe, self.stage, self.number = recipe, recipe.stages[number], number
        self.priors, self.picture = priors, picture
        self.prior = next(iter(priors.values()), None)
        self.device = device or (self.prior.device if self.prior else torch.device("cpu"))
        self.stopwatch = stopwatch or Stopwatch(self.device)
        self.step_count = 0
        self.watch = Watch(self.stage.steps)
        self.reference = (
            Reference(picture, elevation=recipe.reference_elevation, cameras=self.stage.cameras, device=self.device)
            if picture
            else None
        )
        self.generators = {
            name: torch.Generator().manual_seed(len(GENERATORS) * recipe.seed + each + STAGE_SEEDS * number)
            for each, name in enumerate(GENERATORS)
        }
        self.view_order = self.stage.view_order.build(self.stage.cameras)
        model = build_model(recipe, number, previous, self.generators["initialisation"])
        colors = white_and_black(getattr(model, "channels", 3), self.prior)
        self.scene = build_scene(self.stage, model, device=self.device, generators=self.generators, colors=colors)
        config = (self.stage.cache or recipe.cache) if recipe.cache else None
        self.guidances = {name: self._build_guidance(name, config) for name in self.stage.guidances}

    def _build_guidance(self, name: str, cache_config: CacheConfig | None) -> ActiveGuidance:
        config, prior = self.stage.guidances[name], self.priors.get(name)
        cache = None if prior is None else self._accelerate(prior, cache_config)
        inputs = GuidanceInputs(
            prior=prior, reference=self.reference, prompt=self.recipe.prompt,
            negative_prompt=self.recipe.negative_prompt, generator=self.generators["noise"], cache=cache,
            stopwatch=self.stopwatch,
        )  # fmt: skip
        return ActiveGuidance(config, prior, cache, config.build(inputs))

    def _accelerate(self, prior: LatentPrior, config: CacheConfig | None) -> FeatureCache | None:
        """Let a diffusion model run by the engine, and with a cache if there is a configuration of one."""
        prior.use_engine(self.engine)
        if config is not None:
            return apply_hash3d(prior.unet, config, engine=self.engine)
        accelerate_unet(prior.unet, engine=self.engine)
        return None

    @property
    def cache(self) -> FeatureCache | None:
        """The first guidance's cache."""
        return next(iter(self.guidances.values())).cache

    @property
    def _other_caches(self) -> dict[str, FeatureCache]:
        """The caches of the guidances after the first."""
        others = list(self.guidances.items())[1:]
        return {name: guidance.cache for name, guidance in others if guidance.cache}

    @property
    def completed(self) -> bool:
        """Whether all steps of the stage are done."""
        return self.step_count >= self.stage.steps

    @property
    def is_last(self) -> bool:
        """Whether no stage follows."""
        return self.number + 1 == len(self.recipe.stages)

    def next_stage(self) -> "Trainer":
        """The trainer of the next stage, from the model that this one has made, which is closed."""
        self.close()
        return Trainer(
            self.recipe, self.priors, self.picture, number=self.number + 1, previous=self.scene.model,
            stopwatch=self.stopwatch, engine=self.engine, device=self.device,
        )  # fmt: skip

    def close(self) -> None:
        """Take the caches off the diffusion models."""
        for prior in self.priors.values():
            remove_hash3d(prior.unet)

    def step(self) -> Metrics:
        """One optimisation step. Returns its losses and counts; a GPU may still work on them until they are read."""
        step, stage, main = self.step_count, self.stage, next(iter(self.guidances.values()))
        self.scene.before_step(step)
        low, high = main.timestep_range(step)
        cameras, timesteps = self.view_order.next(
            size_at(stage.size, step), low, high, self.generators["cameras"],
            shared_timestep=main.config.shared_timestep,
        )  # fmt: skip
        with self.stopwatch.part("render"):
            random_view = self.scene.draw_random(cameras, step)
            reference_view = (
                self.scene.render_reference(self.reference.camera(size_at(stage.reference_size, step)), step)
                if self.reference
                else None
            )
        outputs: dict[str, GuidanceOutput] = {}
        for name, guidance in self.guidances.items():
            own = scale_timesteps(timesteps, (low, high), guidance.timestep_range(step))
            outputs[name] = guidance.guide(random_view.color, cameras, own, step=step)
            guidance.passes += outputs[name].passes
        losses = {f"{stage.prefix(name)}guidance": output.loss for name, output in outputs.items()}
        weights = {f"{stage.prefix(name)}guidance": stage.losses.guidances[name](step) for name in outputs}
        losses |= self._losses(step, random_view, reference_view)
        weights |= stage.losses.active(step)
        unweighted = torch.stack(list(losses.values()))
        weighted = unweighted * to_device(torch.tensor([weights[name] for name in losses]), unweighted)
        total = weighted.sum()
        with self.stopwatch.part("backward"):
            total.backward()
        self.scene.after_backward()
        flags = step_if_finite(self.scene.optimizer, total)
        self.scene.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        self.scene.after_step(self.step_count)
        parts = dict(zip(losses, weighted.detach().unbind(), strict=True))
        return self._metrics(total.detach(), parts, outputs, flags)

    def _losses(self, step: int, random_view: Render, reference_view: Render | None) -> dict[str, Tensor]:
        """The unweighted losses besides the guidance's; those without weight are left out."""
        active = self.stage.losses.active(step)
        known = self.reference.losses(reference_view) if self.reference and reference_view else {}
        losses = {name: loss() for name, loss in known.items() if name in active}
        return {**losses, **self.scene.losses(step, random_view, reference_view)}

    def _metrics(
        self, total: Tensor, weighted: dict[str, Tensor], outputs: dict[str, GuidanceOutput], flags: dict[str, Tensor]
    ) -> Metrics:
        before = sum(stage.steps for stage in self.recipe.stages[: self.number])
        row: dict[str, float | Tensor] = {"step": float(before + self.step_count - 1), "loss": total}
        row |= {f"loss_{name}": loss for name, loss in weighted.items()} | self.scene.sizes()
        for name, guidance in self.guidances.items():
            numbers = dict(outputs[name].metrics)
            numbers["reuse_share"] = guidance.cache.statistics.reuse_share if guidance.cache else 0.0
            if guidance.cache and guidance.cache.guard.error is not None:
                numbers["reuse_error"] = guidance.cache.guard.error
            row |= {self.stage.prefix(name) + each: number for each, number in numbers.items()}
            flags[f"{self.stage.prefix(name)}guidance"] = (~outputs[name].finite).to(total)
        row |= {PREFIX + name: flag for name, flag in flags.items()}
        return Metrics(row)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values."""
        return {
            "stage": self.number,
            "step": self.step_count,
            "scene": self.scene.state_dict(),
            "view_order": self.view_order.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "passes": {name: guidance.passes for name, guidance in self.guidances.items()},
            "cache": self.cache.state_dict() if self.cache else None,
            "other_caches": {name: cache.state_dict() for name, cache in self._other_caches.items()},
            "not_finite": dict(self.watch.counts),
            "seconds": self.stopwatch.seconds(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as if the run had not stopped."""
        self.step_count = state["step"]
        self.scene.load_state_dict(state["scene"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name].cpu())
        self.view_order.load_state_dict(state["view_order"])
        self.watch.counts = dict(state["not_finite"])
        for name, guidance in self.guidances.items():
            guidance.passes = state["passes"][name]
        if self.cache:
            self.cache.load_state_dict(state["cache"])
        for name, cache in self._other_caches.items():
            cache.load_state_dict(state["other_caches"][name])
        self.stopwatch.add(state["seconds"])


def size_at(schedule: Schedule, step: int) -> int:
    """Pixels of the last knot at or before `step`, rounded down: sizes are not interpolated."""
    passed = [value for start, value in schedule.knots if start <= step]
    return int(passed[-1] if passed else schedule.knots[0][1])


def scale_timesteps(timesteps: Int[Tensor, " B"], first: tuple[int, int], second: tuple[int, int]) -> Int[Tensor, " B"]:
    """Timesteps at the same share of another range: uniform there too, and near each other where these are.

    So a view that returns to a cell of one model's cache returns to one of the other's.
    """
    share = (timesteps - first[0]).double() / max(first[1] - first[0], 1)
    return second[0] + (share * (second[1] - second[0])).round().long()
