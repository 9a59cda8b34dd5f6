"""The one loop: cameras, render, guidance, losses, backward, optimizer."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hash3d.cache import CacheConfig, FeatureCache
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.fast.engine import Engine
from hash3d.guidance.stable_diffusion import StableDiffusionGuidance
from hash3d.pictures import FramedPicture
from hash3d.recipes.recipe import Recipe
from hash3d.rendering.base import Render
from hash3d.scenes.build import build_scene
from hash3d.scenes.model import build_model
from hash3d.schedules import Schedule
from hash3d.stopwatch import Stopwatch
from hash3d.transfer import to_device
from hash3d.unet.hook import accelerate_unet, apply_hash3d, remove_hash3d

from .guide import Tools, build_guidance, build_text_guidance
from .late_metrics import Metrics
from .reference import Reference
from .show import white_and_black

GENERATORS = ("cameras", "noise", "initialisation", "rendering")
STAGE_SEEDS = 1_000_003
"""Between the seeds of two stages."""


class Trainer:
    """Runs a stage of a recipe, one `step()` at a time.

    One seed makes four generators (cameras and timesteps, noise, initialisation and densification, rendering), and the
    cache has one of its own, so that switching the cache on or off changes no camera and no noise.

    Args:
        recipe: what to run.
        prior: the recipe's diffusion model, on its device.
        picture: the reference picture in the prior's framing, at least as large as the largest reference view; None if
            the run starts from a text.
        text_prior: the second diffusion model, if the recipe has one.
        number: which of the recipe's stages.
        previous: the model that the stage before made; a second stage without it waits for `load_state_dict`.
        stopwatch: goes on; None starts one.
        engine: how the diffusion models run; see `hash3d.fast.engine`.
    """

    def __init__(
        self,
        recipe: Recipe,
        prior: LatentPrior,
        picture: FramedPicture | None,
        *,
        text_prior: StableDiffusionPrior | None = None,
        number: int = 0,
        previous: nn.Module | None = None,
        stopwatch: Stopwatch | None = None,
        engine: Engine = "auto",
    ) -> None:
        self.engine: Engine = engine
        self.recipe, self.stage, self.number = recipe, recipe.stages[number], number
        self.prior, self.text_prior, self.picture = prior, text_prior, picture
        self.device = prior.device
        self.stopwatch = stopwatch or Stopwatch(self.device)
        self.step_count, self.passes, self.text_passes = 0, 0, 0
        self.reference = (
            Reference(picture, elevation=recipe.reference_elevation, cameras=self.stage.cameras, device=self.device)
            if picture
            else None
        )
        self.generators = {
            name: torch.Generator().manual_seed(len(GENERATORS) * recipe.seed + each + STAGE_SEEDS * number)
            for each, name in enumerate(GENERATORS)
        }
        self.draws = self.stage.draws.build(self.stage.cameras.build())
        model = build_model(recipe, number, previous, self.generators["initialisation"])
        colors = white_and_black(getattr(model, "channels", 3), prior)
        self.scene = build_scene(self.stage, model, device=self.device, generators=self.generators, colors=colors)
        self._build_guidance()

    def _build_guidance(self) -> None:
        config = (self.stage.cache or self.recipe.cache) if self.recipe.cache else None
        self.cache = self._accelerate(self.prior, config)
        self.text_cache: FeatureCache | None = None
        tools: Tools = {"generator": self.generators["noise"], "cache": self.cache, "stopwatch": self.stopwatch}
        self.guidance = build_guidance(self.recipe, self.stage.guidance, self.prior, self.reference, **tools)
        self.text_guidance: StableDiffusionGuidance | None = None
        if self.stage.text_guidance is not None and self.text_prior is not None:
            self.text_cache = self._accelerate(self.text_prior, config)
            tools["cache"] = self.text_cache
            self.text_guidance = build_text_guidance(self.recipe, self.stage.text_guidance, self.text_prior, **tools)

    def _accelerate(self, prior: LatentPrior, config: CacheConfig | None) -> FeatureCache | None:
        """Let a diffusion model run by the engine, and with a cache if there is a configuration of one."""
        prior.use_engine(self.engine)
        if config is not None:
            return apply_hash3d(prior.unet, config, engine=self.engine)
        accelerate_unet(prior.unet, engine=self.engine)
        return None

    @property
    def completed(self) -> bool:
        """Whether all steps of the stage are done."""
        return self.step_count >= self.stage.steps

    @property
    def is_last(self) -> bool:
        """Whether no stage follows."""
        return self.number + 1 == len(self.recipe.stages)

    def following(self) -> "Trainer":
        """The next stage, from the model that this one has made, which is closed."""
        self.close()
        return Trainer(
            self.recipe, self.prior, self.picture,
            text_prior=self.text_prior, number=self.number + 1, previous=self.scene.model, stopwatch=self.stopwatch,
            engine=self.engine,
        )  # fmt: skip

    def close(self) -> None:
        """Take the caches off the diffusion models."""
        for prior in (self.prior, self.text_prior):
            if prior is not None:
                remove_hash3d(prior.unet)

    def step(self) -> Metrics:
        """One optimisation step. Returns its losses and counts; a GPU may still work on them until they are read."""
        step, stage = self.step_count, self.stage
        self.scene.before_step(step)
        low, high = stage.guidance.timestep_range(step, self.prior.schedule.num_timesteps)
        cameras, timesteps = self.draws.next(
            size_at(stage.size, step), low, high, self.generators["cameras"],
            shared_timestep=stage.guidance.shared_timestep,
        )  # fmt: skip
        with self.stopwatch.part("render"):
            random_view = self.scene.draw_random(cameras, step)
            reference_view = (
                self.scene.draw_reference(self.reference.camera(size_at(stage.reference_size, step)), step)
                if self.reference
                else None
            )
        guided = self.guidance(random_view.color, cameras, timesteps, step=step)
        self.passes += guided.passes
        losses = {"guidance": guided.loss, **self._losses(step, random_view, reference_view)}
        if self.text_guidance is not None:
            other = self.text_guidance.config.timestep_range(step, self.text_guidance.prior.schedule.num_timesteps)
            guided_by_text = self.text_guidance(
                random_view.color, cameras, same_share(timesteps, (low, high), other), step=step
            )
            self.text_passes += guided_by_text.passes
            losses["text_guidance"] = guided_by_text.loss
        weights = {"guidance": 0.0, "text_guidance": 0.0} | stage.losses.active(step)
        unweighted = torch.stack(list(losses.values()))
        weighted = unweighted * to_device(torch.tensor([weights[name] for name in losses]), unweighted)
        total = weighted.sum()
        with self.stopwatch.part("backward"):
            total.backward()
        self.scene.after_backward()
        self.scene.optimizer.step()
        self.scene.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        self.scene.after_step(self.step_count)
        parts = dict(zip(losses, weighted.detach().unbind(), strict=True))
        return self._metrics(total.detach(), parts, guided.metrics)

    def _losses(self, step: int, random_view: Render, reference_view: Render | None) -> dict[str, Tensor]:
        """The unweighted losses besides the guidance's; those without weight are left out."""
        active = self.stage.losses.active(step)
        known = self.reference.losses(reference_view) if self.reference and reference_view else {}
        losses = {name: loss() for name, loss in known.items() if name in active}
        return {**losses, **self.scene.losses(step, random_view, reference_view)}

    def _metrics(self, total: Tensor, weighted: dict[str, Tensor], extra: dict[str, float]) -> Metrics:
        counts = {**self.scene.sizes(), "reuse_share": 0.0}
        if self.cache:
            counts["reuse_share"] = self.cache.statistics.reuse_share
            if self.cache.guard.error is not None:
                counts["reuse_error"] = self.cache.guard.error
        before = sum(stage.steps for stage in self.recipe.stages[: self.number])
        losses = {"loss": total, **{f"loss_{name}": loss for name, loss in weighted.items()}}
        return Metrics({"step": float(before + self.step_count - 1), **losses, **extra, **counts})

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values."""
        return {
            "stage": self.number,
            "step": self.step_count,
            "scene": self.scene.state_dict(),
            "draws": self.draws.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "cache": self.cache.state_dict() if self.cache else None,
            "text_cache": self.text_cache.state_dict() if self.text_cache else None,
            "passes": (self.passes, self.text_passes),
            "seconds": self.stopwatch.seconds(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as if the run had not stopped."""
        self.step_count = state["step"]
        self.passes, self.text_passes = state["passes"]
        self.scene.load_state_dict(state["scene"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name].cpu())
        self.draws.load_state_dict(state["draws"])
        if self.cache:
            self.cache.load_state_dict(state["cache"])
        if self.text_cache:
            self.text_cache.load_state_dict(state["text_cache"])
        self.stopwatch.add(state["seconds"])


def size_at(schedule: Schedule, step: int) -> int:
    """Pixels of the last knot at or before `step`: sizes jump, they do not slide."""
    passed = [value for start, value in schedule.knots if start <= step]
    return int(passed[-1] if passed else schedule.knots[0][1])


def same_share(timesteps: Int[Tensor, " B"], first: tuple[int, int], second: tuple[int, int]) -> Int[Tensor, " B"]:
    """Timesteps at the same share of another range: uniform there too, and near each other where these are.

    So a view that returns to a cell of one model's cache returns to one of the other's.
    """
    share = (timesteps - first[0]).double() / max(first[1] - first[0], 1)
    return second[0] + (share * (second[1] - second[0])).round().long()
