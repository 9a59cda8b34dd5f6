"""A recipe's model, as everybody sees it and as its scene draws it."""

import torch

from hash3d.cameras import Cameras
from hash3d.representations.background import WHITE_AND_BLACK
from hash3d.scenes.build import build_model, build_scene, show_model

CAMERAS = Cameras.orbit(elevation=10.0, azimuth=[0.0, 120.0], radius=1.5, fov_y=49.1, size=24)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def built(recipe):
    """The model of a recipe's last stage at its start."""
    first = build_model(recipe, 0, None, seeded())
    return first if recipe.refinement is None else build_model(recipe, 1, first, seeded(1))


def shown_and_drawn(stage, model):
    """The view of the reference picture as everybody sees it, and as the stage's scene draws it."""
    generators = {"initialisation": seeded(2), "rendering": seeded(3)}
    white = torch.tensor(WHITE_AND_BLACK)
    scene = build_scene(stage, model, device=torch.device("cpu"), generators=generators, colors=white)
    for step in range(0, 64, 16):  # as many looks at the cells of a field
        scene.before_step(step)
    with torch.no_grad():
        drawn = scene.render_reference(CAMERAS[1], 0)
    shown = show_model(model, stage)(CAMERAS[1])
    assert 0.01 < float(shown.alpha.mean()) < 0.99
    return [(getattr(shown, name), getattr(drawn, name)) for name in ("color", "alpha", "depth")]
