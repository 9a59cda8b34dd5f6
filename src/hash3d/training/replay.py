"""Replayed steps of a stage: every few steps a view is denoised and kept, and each step fits kept views in pixels."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hash3d.cameras import Cameras, Lattice
from hash3d.guidance.base import Guidance, GuidanceOutput, Images
from hash3d.guidance.denoise import DenoiseGuidance, denoise
from hash3d.guidance.latent_guidance import LatentGuidance, resize
from hash3d.guidance.targets import ReplayConfig, TargetBuffer
from hash3d.recipes.stage import Stage
from hash3d.rendering.base import Render
from hash3d.rendering.shading import Shading
from hash3d.scenes.base import Look, Scene

CAMERA = ("elevation", "azimuth", "radius", "fov_y")
View = dict[str, Any]
"""Of a target, in plain values: the numbers of its camera, its background and its light."""


class Replay:
    """Makes and fits the targets of a stage. Its random numbers are its own, so that no other step's change.

    Args:
        config: how often, how many.
        stage: whose views are sampled.
        scene: renders them.
        guide: the stage's guidance, which makes the targets; `ValueError` if it does not denoise.
        seed: of the choice of targets.
    """

    def __init__(self, config: ReplayConfig, stage: Stage, scene: Scene[Any], guide: Guidance, seed: int) -> None:
        if not isinstance(guide, (LatentGuidance, DenoiseGuidance)):
            raise ValueError(f"Expected a guidance that denoises, for replay, but got {guide!r}. Leave replay out.")
        self.config, self.scene, self.guide, self.pixel_stride = config, scene, guide, stage.pixel_stride
        self.batch = stage.cameras.batch_size * config.together
        cameras = replace(stage.cameras, batch_size=self.batch)
        self.view_order = replace(stage.view_order, visits_per_cell=1).build(cameras)
        self.targets = TargetBuffer[View](config.kept, config.max_bytes)
        self.generator = torch.Generator().manual_seed(seed)

    @torch.no_grad()
    def make(self, cameras: Cameras, start: int, step: int) -> int:
        """Render views, denoise them from the timestep `start` and keep the results. Returns the U-Net's passes."""
        guidance: Any = self.guide
        path: Sequence[int] = self.config.path(start)
        if isinstance(guidance, DenoiseGuidance):
            path, guidance = guidance.path(start), guidance.guidance
        image, look = self.scene.draw_random(cameras, step).color, self.scene.look
        if guidance.cache is not None:
            guidance.cache.disable()  # What makes a target worth its pass is that it is independent.
        images = denoise(guidance, image, cameras, path, self.config.guidance_scale)
        if guidance.cache is not None:
            guidance.cache.enable()
        for row, target in enumerate(images.half() if images.is_cuda else images):
            camera = {each: float(getattr(cameras, each)[row]) for each in CAMERA}
            self.targets.add(target, {"camera": camera, **split_look(look, row)})
        return len(images) * len(path)

    def fit(self, size: int, step: int) -> tuple[Render, GuidanceOutput]:
        """Render kept views at `size` pixels a side, or the stage's share of these pixels.

        Returns the last render, and the mean squared error of all views; what is not finite in a target counts as none.
        """
        images, views = self.targets.sample(self.config.fitted, self.generator)
        pixels = Lattice.draw(size, self.pixel_stride, self.generator)
        pairs = sorted(zip(images, views, strict=True), key=lambda pair: kind_of(pair[1]))
        errors: list[Tensor] = []
        for _, group in groupby(pairs, key=lambda pair: kind_of(pair[1])):
            targets, chosen = map(list, zip(*group, strict=True))
            self.scene.repeat_look(join_looks(chosen))
            render = self.scene.draw_random(pixels.cameras(join_cameras(chosen, size)), step)
            error, target = pixel_error(render.color, torch.stack(targets), pixels)
            errors.append(error * len(chosen))
        return render, GuidanceOutput(loss=torch.stack(errors).sum() / len(images), passes=0, predicted=target)

    def draw(self, size: int) -> tuple[list[Tensor], Cameras, Look] | None:
        """The targets of a step, their cameras of `size` pixels, and their look; None and undone if that differs."""
        state = self.generator.get_state()
        images, views = self.targets.sample(self.config.fitted, self.generator)
        if len(set(map(kind_of, views))) > 1:
            self.generator.set_state(state)
            return None
        return images, join_cameras(views, size), join_looks(views)

    def state_dict(self) -> dict[str, Any]:
        """All that the next step depends on: tensors and plain values."""
        return {
            "storage": self.targets.state_dict(),
            "view_order": self.view_order.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue as if the run had not stopped."""
        self.targets.load_state_dict(state["storage"], self.scene.device)
        self.view_order.load_state_dict(state["view_order"])
        self.generator.set_state(state["generator"].cpu())


def pixel_error(
    images: Images, targets: Float[Tensor, "B h w C"], pixels: Lattice | None = None
) -> tuple[Float[Tensor, ""], Images]:
    """The mean squared error of images, and the targets at their size; what is not finite counts as no error.

    With `pixels` the images have these of the targets alone.
    """
    pixels = pixels or Lattice()
    target = pixels.images(resize(targets.float(), [side * pixels.stride for side in images.shape[1:3]]))
    return torch.where(target.isfinite(), images - target, 0.0).square().mean(), target


def join_cameras(views: list[View], size: int) -> Cameras:
    """The cameras of views, of `size` pixels."""
    return Cameras.orbit(**{name: [view["camera"][name] for view in views] for name in CAMERA}, size=size)


def kind_of(view: View) -> str:
    """What views that are rendered together share: the kinds of background and light."""
    light = view["light"] and {**view["light"], "lights": None}
    return repr((view["background"] is None, light))


def split_look(look: Look, row: int) -> View:
    """One view's background and light, in plain values."""
    background = None if look.background is None else look.background[row]
    light = None if look.shading is None else {**vars(look.shading), "lights": look.shading.lights[row].tolist()}
    return {"background": background, "light": light}


def join_looks(views: list[View]) -> Look:
    """The backgrounds and lights of views of one kind."""
    first = views[0]
    background = None if first["background"] is None else torch.stack([view["background"] for view in views])
    if first["light"] is None:
        return Look(background, None)
    lights = torch.tensor([view["light"]["lights"] for view in views])
    return Look(background, Shading(**{**first["light"], "lights": lights}))
