"""Numbers that are not finite, put into a step of any system at any place."""

import functools
from contextlib import contextmanager
from dataclasses import replace

import torch

from hash3d.tensors import all_finite
from hash3d.training.run import Run
from hash3d.training.trainer import Trainer
from hash3d.training.watch import NotFiniteError

SYSTEMS = (
    "zero123_gs", "zero123_nerf", "dreamgaussian", "magic123", "sds_gs", "dreamfusion", "latent_nerf", "magic3d",
    "gaussiandreamer",
)  # fmt: skip
STAGES = {name: 2 if name in ("dreamgaussian", "magic123", "magic3d", "gaussiandreamer") else 1 for name in SYSTEMS}


def spoil(tensor, value):
    """A copy whose first number is `value`."""
    spoiled = tensor.clone()
    spoiled[(0,) * tensor.ndim] = value
    return spoiled


def spoil_render(render, value, field):
    return replace(render, **{field: spoil(getattr(render, field), value)})


@contextmanager
def patched(owner, name, change):
    """A method whose result is changed."""
    method = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: change(method(*args, **kwargs)))
    try:
        yield
    finally:
        delattr(owner, name)


@contextmanager
def hooked(modules, value):
    handles = [module.register_forward_hook(lambda *a: spoil(a[-1], value)) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def gradient(trainer, value):
    def hurt(_):
        parameter = next(p for p in trainer.scene.model.parameters() if p.grad is not None)
        parameter.grad.view(-1)[:1] = value

    with patched(trainer.scene, "after_backward", hurt):
        yield


@contextmanager
def text(trainer, value):
    guides = [getattr(each.guide, "guidance", each.guide) for each in trainer.guidances.values()]
    guides = [guide for guide in guides if hasattr(guide, "_conditional")]
    before = [guide._conditional for guide in guides]
    for guide in guides:
        guide._conditional = torch.full_like(guide._conditional, value)
    try:
        yield
    finally:
        for guide, embedding in zip(guides, before, strict=True):
            guide._conditional = embedding


@contextmanager
def parameters(trainer, value):
    next(p for p in trainer.scene.model.parameters() if p.requires_grad).data.view(-1)[:1] = value
    yield


@contextmanager
def moments(trainer, value):
    for state in trainer.scene.optimizer.state.values():
        state["exp_avg"].view(-1)[:1] = value
    yield


def parts(trainer, *path):
    return [functools.reduce(getattr, path, guidance.prior) for guidance in trainer.guidances.values()]


PLACES = {
    "render": lambda t, v: patched(t.scene, "draw_random", lambda r: spoil_render(r, v, "color")),
    "mask": lambda t, v: patched(t.scene, "render_reference", lambda r: spoil_render(r, v, "alpha")),
    "prediction": lambda t, v: hooked(parts(t, "unet", "conv_out"), v),
    "encoder": lambda t, v: hooked(parts(t, "vae", "encoder", "conv_out"), v),
    "decoder": lambda t, v: hooked(parts(t, "vae", "decoder", "conv_out"), v),
    "text": text,
    "gradient": gradient,
    "parameters": parameters,
    "moments": moments,
}


def matters(system, stage, place):
    """Whether a system's stage computes what is spoiled."""
    if place == "mask":
        return system in ("zero123_gs", "zero123_nerf", "magic123") or (system, stage) == ("dreamgaussian", 0)
    if place == "text":
        return system not in ("zero123_gs", "zero123_nerf", "dreamgaussian")
    if place == "encoder":
        return system != "latent_nerf"
    if place == "decoder":
        return (system, stage) == ("dreamgaussian", 1)
    return True


def run_spoiled(monkeypatch, recipe, folder, place, value, when):
    """Run a recipe with the place spoiled at the steps (stage, step) that `when` chooses.

    Returns the error or None, and the run.
    """
    step = Trainer.step

    def spoiled(trainer):
        if not when(trainer.number, trainer.step_count):
            return step(trainer)
        with PLACES[place](trainer, value):
            return step(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", spoiled)
        run = Run(recipe, folder)
        try:
            run.train()
        except NotFiniteError as error:
            run.trainer.close()
            return error, run
    return None, run


def checkpoint_is_finite(folder):
    """Of the scene, or there is none."""
    file = folder / "checkpoint/state.pt"
    return not file.exists() or bool(all_finite(torch.load(file, weights_only=True)["scene"]))
