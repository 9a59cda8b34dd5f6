"""The one loop: cameras, render, guidances, losses, backward, optimizer."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from hash3d.cache import CacheConfig, FeatureCache
from hash3d.cameras import Cameras, Lattice
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.fast.engine import Engine, records
from hash3d.guidance.base import GuidanceInputs, GuidanceOutput
from hash3d.guidance.targets import ReplayConfig
from hash3d.kernels import has_triton
from hash3d.pictures import FramedPicture
from hash3d.recipes.recipe import Recipe
from hash3d.recipes.view_order import ViewOrder
from hash3d.rendering.base import Render
from hash3d.scenes.build import build_model, build_scene
from hash3d.scenes.show import white_and_black
from hash3d.schedules import size_at
from hash3d.stopwatch import Stopwatch
from hash3d.tensors import to_device
from hash3d.unet import accelerate_unet, apply_hash3d, remove_hash3d

from .guide import ActiveGuidance, scale_timesteps
from .recorded_kinds import RecordedDistillation, RecordedFit, can_distil, can_record
from .recorded_step import Taken
from .reference import Reference
from .replay import Replay
from .watch import PREFIX, Metrics, Watch, step_if_finite

GENERATORS = ("cameras", "noise", "initialisation", "rendering")
STAGE_SEEDS = 1_000_003
"""Between the seeds of two stages."""
REPLAY_SEED = 500_000
"""Between the seeds of a stage and that of its replay."""
CHECK_EVERY = 16
"""U-Net calls from one in which the diffusion model is looked at to the next."""
Guided = tuple[Render, Render | None, dict[str, GuidanceOutput], dict[str, float]]
"""Random views, the reference's, the guidances' outputs and the weights of their losses."""


class Trainer:
    """Runs a stage of a recipe, one `step()` at a time.

    The diffusion models are its own: whether one has changed is looked at in one U-Net call of `CHECK_EVERY` alone.

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
        self.step_count, self.watch = 0, Watch(self.stage.steps)
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
        config = (self.stage.cache or recipe.cache) if recipe.cache and self.stage.distills else None
        self.guidances = {name: self._build_guidance(name, config) for name in self.stage.guidances}
        self.replay = self._build_replay(self.stage.replay) if self.stage.replay else None
        graphs = records(engine, self.device) and has_triton() and can_record(self)
        self.recorded = RecordedDistillation(self, recorded=True) if graphs and can_distil(self) else None
        self.recorded_fit = RecordedFit(self, self.replay, recorded=True) if graphs and self.replay else None

    def _build_guidance(self, name: str, cache_config: CacheConfig | None) -> ActiveGuidance:
        config, prior = self.stage.guidances[name], self.priors.get(name)
        cache = None if prior is None else self._accelerate(prior, cache_config)
        inputs = GuidanceInputs(
            prior=prior, reference=self.reference, prompt=self.recipe.prompt,
            negative_prompt=self.recipe.negative_prompt, generator=self.generators["noise"], cache=cache,
            stopwatch=self.stopwatch,
        )  # fmt: skip
        return ActiveGuidance(config, prior, cache, config.build(inputs))

    def _build_replay(self, config: ReplayConfig) -> Replay:
        if len(self.guidances) > 1:
            raise ValueError(f"Expected one guidance, for replay, but got {', '.join(self.guidances)}.")
        seed = REPLAY_SEED + len(GENERATORS) * self.recipe.seed + STAGE_SEEDS * self.number
        return Replay(config, self.stage, self.scene, next(iter(self.guidances.values())).guide, seed)

    def _accelerate(self, prior: LatentPrior, config: CacheConfig | None) -> FeatureCache | None:
        """Let a diffusion model run by the engine, and with a cache if there is a configuration of one."""
        prior.use_engine(self.engine)
        cache = None if config is None else apply_hash3d(prior.unet, config, engine=self.engine)
        if cache is None:
            accelerate_unet(prior.unet, engine=self.engine)
        forward: Any = prior.unet.forward
        forward.check_every = CHECK_EVERY
        return cache

    @property
    def cache(self) -> FeatureCache | None:
        """The first guidance's cache."""
        return next(iter(self.guidances.values())).cache

    @property
    def _other_caches(self) -> dict[str, FeatureCache]:
        """The caches of the guidances after the first."""
        return {name: each.cache for name, each in [*self.guidances.items()][1:] if each.cache}

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
        """Take the caches off the diffusion models, and give back the memory of a recorded step."""
        self.recorded = self.recorded_fit = None
        for prior in self.priors.values():
            remove_hash3d(prior.unet)

    def step(self) -> Metrics:
        """One optimisation step. Returns its losses and counts; a GPU may still work on them until they are read."""
        step, stage = self.step_count, self.stage
        self.scene.before_step(step)
        replays = self.replay is not None and self.replay.config.active(step, stage.steps)
        if replays:
            self._make_targets(step)
        recorded = self.recorded_fit if replays else self.recorded
        taken = (recorded and recorded(step)) or self._take(step, replays)
        self.step_count += 1
        self.scene.after_step(self.step_count)
        return self._metrics(taken)

    def _take(self, step: int, replays: bool) -> Taken:
        """Losses, gradients and the optimizer's step."""
        stage = self.stage
        random_view, reference_view, outputs, factors = self._replay(step) if replays else self._distill(step)
        losses = {stage.guidance_loss(name): output.loss for name, output in outputs.items()}
        weights = {stage.guidance_loss(name): factor for name, factor in factors.items()}
        losses |= self.losses(step, random_view, reference_view)
        weights |= stage.losses.active(step)
        unweighted = torch.stack(list(losses.values()))
        weighted = unweighted * to_device(torch.tensor([weights[name] for name in losses]), unweighted)
        total = weighted.sum()
        with self.stopwatch.part("backward"):
            total.backward()
        self.scene.after_backward()
        flags = step_if_finite(self.scene.optimizer, total)
        self.scene.optimizer.zero_grad(set_to_none=True)
        for name, output in outputs.items():
            flags[stage.guidance_loss(name)] = (~output.finite).to(total)
        parts = dict(zip(losses, weighted.detach().unbind(), strict=True))
        return Taken(total.detach(), parts, flags, {name: output.metrics for name, output in outputs.items()})

    def sample_views(
        self, step: int, order: ViewOrder | None = None
    ) -> tuple[Cameras, Int[Tensor, " B"], tuple[int, int]]:
        """Random cameras, and timesteps of the first guidance with their range."""
        order, main = order or self.view_order, next(iter(self.guidances.values()))
        low, high = main.timestep_range(step)
        cameras, timesteps = order.next(
            size_at(self.stage.size, step), low, high, self.generators["cameras"],
            shared_timestep=main.config.shared_timestep,
        )  # fmt: skip
        return cameras, timesteps, (low, high)

    def _distill(self, step: int) -> Guided:
        """Random views, what each guidance says of them, and the weights of the guidances."""
        cameras, timesteps, reach = self.sample_views(step)
        with self.stopwatch.part("render"):
            view = self.scene.draw_random(cameras, step)
            reference = self.render_reference(step)  # Before the guidances: a mesh waits for its pixels' number.
        outputs = {}
        for name, guidance in self.guidances.items():
            own = scale_timesteps(timesteps, reach, guidance.timestep_range(step))
            outputs[name] = guidance.guide(view.color, cameras, own, step=step)
            guidance.passes += outputs[name].passes
        return view, reference, outputs, {name: self.stage.losses.guidances[name](step) for name in outputs}

    def _make_targets(self, step: int) -> None:
        """Now and then a batch of targets for replay."""
        assert self.replay is not None
        if step % (self.replay.config.every * self.replay.batch) == 0:
            cameras, timesteps, _ = self.sample_views(step, self.replay.view_order)
            next(iter(self.guidances.values())).passes += self.replay.make(cameras, int(timesteps[0]), step)

    def _replay(self, step: int) -> Guided:
        """Kept views, how far they are from their targets, and the weights."""
        assert self.replay is not None
        with self.stopwatch.part("render"):
            view, output = self.replay.fit(size_at(self.stage.size, step), step)
            reference, weight = self.render_reference(step), self.replay.config.weight
        return view, reference, dict.fromkeys(self.guidances, output), dict.fromkeys(self.guidances, weight)

    def render_reference(self, step: int) -> Render | None:
        """The view of the reference image, if there is one."""
        if self.reference is None:
            return None
        size = size_at(self.stage.reference_size, step)
        pixels = Lattice.draw(size, self.stage.pixel_stride, self.generators["rendering"])
        return self.scene.render_reference(self.reference.camera(size, pixels), step)

    def losses(self, step: int, random_view: Render, reference_view: Render | None) -> dict[str, Tensor]:
        """The unweighted losses besides the guidance's; those without weight are left out."""
        active = self.stage.losses.active(step)
        known = self.reference.losses(reference_view) if self.reference and reference_view else {}
        losses = {name: loss() for name, loss in known.items() if name in active}
        return {**losses, **self.scene.losses(step, random_view, reference_view)}

    def _metrics(self, taken: Taken) -> Metrics:
        before = sum(stage.steps for stage in self.recipe.stages[: self.number])
        row: dict[str, float | Tensor] = {"step": float(before + self.step_count - 1), "loss": taken.loss}
        row |= {f"loss_{name}": loss for name, loss in taken.parts.items()} | self.scene.sizes()
        for name, guidance in self.guidances.items():
            numbers = dict(taken.metrics.get(name, {}))
            numbers["reuse_share"] = guidance.cache.statistics.reuse_share if guidance.cache else 0.0
            if guidance.cache and guidance.cache.guard.error is not None:
                numbers["reuse_error"] = guidance.cache.guard.error
            row |= {self.stage.prefix(name) + each: number for each, number in numbers.items()}
        row |= {PREFIX + name: flag for name, flag in taken.flags.items()}
        return Metrics(row)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values. The cache is of features, or replay's images."""
        kept = self.cache or self.replay
        return {
            "stage": self.number,
            "step": self.step_count,
            "scene": self.scene.state_dict(),
            "view_order": self.view_order.state_dict(),
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "passes": {name: guidance.passes for name, guidance in self.guidances.items()},
            "cache": kept.state_dict() if kept else None,
            "replay": self.replay.state_dict() if self.replay and self.cache else None,
            "other_caches": {name: cache.state_dict() for name, cache in self._other_caches.items()},
            "not_finite": dict(self.watch.counts),
            "seconds": self.stopwatch.seconds(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as if the run had not stopped."""
        self.step_count = int(state["step"])
        self.scene.load_state_dict(state["scene"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name].cpu())
        self.view_order.load_state_dict(state["view_order"])
        self.watch.counts = dict(state["not_finite"])
        for name, guidance in self.guidances.items():
            guidance.passes = int(state["passes"][name])
        if kept := self.cache or self.replay:
            kept.load_state_dict(state["cache"])
        if self.replay and self.cache:
            self.replay.load_state_dict(state["replay"])
        for name, cache in self._other_caches.items():
            cache.load_state_dict(state["other_caches"][name])
        self.stopwatch.add(state["seconds"])
