"""The one loop: cameras, render, guidance, losses, backward, optimizer, densification."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cache import FeatureCache
from hash3d.diffusion.hook import apply_hash3d
from hash3d.diffusion.latent_prior import LatentPrior
from hash3d.pictures import FramedPicture
from hash3d.rendering.base import Render
from hash3d.rendering.splat import screen_probe
from hash3d.schedules import Schedule
from hash3d.stopwatch import Stopwatch

from .guide import build_guidance
from .losses import opaque_loss, scale_loss
from .recipe import Recipe
from .reference import Reference

Metrics = dict[str, float]


class Trainer:
    """Optimises the representation of a recipe, one `step()` at a time.

    One seed makes three generators (cameras and timesteps, noise, initialisation and densification), and the cache has
    one of its own, so that switching the cache on or off changes no camera and no noise.

    Args:
        recipe: what to run.
        prior: the recipe's diffusion model, on its device.
        picture: the reference picture in the prior's framing, at least as large as the largest reference view; None if
            the run starts from a text.
    """

    def __init__(self, recipe: Recipe, prior: LatentPrior, picture: FramedPicture | None) -> None:
        self.recipe, self.stage, self.prior = recipe, recipe.stage, prior
        self.device = prior.device
        self.stopwatch = Stopwatch(self.device)
        self.step_count = 0
        self.reference = (
            Reference(picture, elevation=recipe.reference_elevation, cameras=recipe.stage.cameras, device=self.device)
            if picture
            else None
        )
        self.generators = {
            name: torch.Generator().manual_seed(4 * recipe.seed + number)
            for number, name in enumerate(("cameras", "noise", "initialisation"))
        }
        self._build()

    def _build(self) -> None:
        """Make the stage's parts."""
        stage = self.stage
        self.draws = stage.draws.build(stage.cameras.build())
        self.renderer = stage.renderer.build()
        self.scene = stage.representation.build(self.generators["initialisation"]).to(self.device)
        self.optimizer = self.scene.build_optimizer()
        for group in self.optimizer.param_groups:
            group["betas"] = stage.adam_betas
        self.densifier = (
            stage.densify.build(len(self.scene), self.generators["initialisation"]) if stage.densify else None
        )
        self.cache: FeatureCache | None = (
            apply_hash3d(self.prior.unet, self.recipe.cache) if self.recipe.cache else None
        )
        self.guidance = build_guidance(
            self.recipe, self.prior, self.reference,
            generator=self.generators["noise"], cache=self.cache, stopwatch=self.stopwatch,
        )  # fmt: skip

    def step(self) -> Metrics:
        """One optimisation step. Returns its losses and counts."""
        step = self.step_count
        self.scene.update_learning_rate(self.optimizer, step)
        low, high = self.stage.guidance.timestep_range(step, self.prior.schedule.num_timesteps)
        cameras, timesteps = self.draws.next(
            size_at(self.stage.size, step), low, high, self.generators["cameras"],
            shared_timestep=self.stage.guidance.shared_timestep,
        )  # fmt: skip
        with self.stopwatch.part("render"):
            probe = screen_probe(self.scene, cameras)
            random_view = self.renderer(self.scene, cameras, self.white(len(cameras)), probe)
            reference_view = self.render_reference(size_at(self.stage.reference_size, step))
        guided = self.guidance(random_view.color, cameras, timesteps, step=step)
        losses = {"guidance": guided.loss, **self._losses(random_view, reference_view)}
        weighted = {name: getattr(self.stage.losses, name)(step) * loss for name, loss in losses.items()}
        total = torch.stack(list(weighted.values())).sum()
        with self.stopwatch.part("backward"):
            total.backward()
        if self.densifier and probe.grad is not None:
            self.densifier.add(probe.grad, (cameras.width, cameras.height))
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step_count += 1
        if self.densifier:
            self.densifier.after_step(self.step_count, self.scene, self.optimizer)
        return self._metrics(step, total, weighted, guided.metrics)

    def _losses(self, random_view: Render, reference_view: Render | None) -> dict[str, Tensor]:
        """The unweighted losses besides the guidance's; those without weight are left out."""
        weights, step = self.stage.losses, self.step_count
        losses = self.reference.losses(reference_view) if self.reference and reference_view else {}
        if weights.opaque(step):
            losses["opaque"] = opaque_loss(random_view.alpha)
        if weights.scale(step):
            losses["scale"] = scale_loss(self.scene.gaussians().scales, weights.scale_limit)
        return losses

    def _metrics(self, step: int, total: Tensor, weighted: dict[str, Tensor], extra: Metrics) -> Metrics:
        names = ["loss", *(f"loss_{name}" for name in weighted)]
        values = torch.stack([total.detach(), *(loss.detach() for loss in weighted.values())]).tolist()
        counts = {"gaussians": float(len(self.scene)), "reuse_share": 0.0}
        if self.cache:
            counts["reuse_share"] = self.cache.statistics.reuse_share
            if self.cache.guard.error is not None:
                counts["reuse_error"] = self.cache.guard.error
        return {"step": float(step), **dict(zip(names, values, strict=True)), **extra, **counts}

    def white(self, count: int) -> Float[Tensor, "B 3"]:
        """White backgrounds."""
        return torch.ones(count, 3, device=self.device)

    def render_reference(self, size: int) -> Render | None:
        """The scene from the picture's camera, on white; None if there is no picture."""
        return self.renderer(self.scene, self.reference.camera(size), self.white(1)) if self.reference else None

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values."""
        return {
            "step": self.step_count,
            "scene": self.scene.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "draws": self.draws.state_dict(),
            "densifier": self.densifier.state_dict() if self.densifier else None,
            "generators": {name: generator.get_state() for name, generator in self.generators.items()},
            "cache": self.cache.state_dict() if self.cache else None,
            "seconds": self.stopwatch.seconds(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on as if the run had not stopped."""
        self.step_count = state["step"]
        self.scene.load_state_dict(state["scene"])
        self.optimizer = self.scene.build_optimizer()
        self.optimizer.load_state_dict(state["optimizer"])
        for name, generator in self.generators.items():
            generator.set_state(state["generators"][name].cpu())
        self.draws.load_state_dict(state["draws"])
        if self.densifier:
            self.densifier.load_state_dict(state["densifier"])
        if self.cache:
            self.cache.load_state_dict(state["cache"])
        self.stopwatch.add(state["seconds"])


def size_at(schedule: Schedule, step: int) -> int:
    """Pixels of the last knot at or before `step`: sizes jump, they do not slide."""
    passed = [value for start, value in schedule.knots if start <= step]
    return int(passed[-1] if passed else schedule.knots[0][1])
