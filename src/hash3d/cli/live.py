"""A run in the browser while it trains, by viser: `hash3d generate SYSTEM --view`, and `hash3d view RUN --live`.

Views are rendered between two steps, in the thread that trains: nothing is locked, and no number of the run changes.
"""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.export.turntable import RenderViews, render_each, to_bytes, write_video
from hash3d.kernels import import_extra
from hash3d.scenes.build import show_model
from hash3d.scenes.show import colors
from hash3d.training.trainer import Trainer
from hash3d.training.watch import Metrics

SHARE = 0.04
"""Of a run's time that may go into views, pauses left out."""
HEIGHTS, MOVING_SECONDS = (512, 256, 128), 0.15
"""Pixels of a view: the first where nothing trains and nobody moves, else the largest that is rendered in that time."""
NEAREST, WIDEST = 1e-3, 4.0
"""The least distance to the origin in scene units, and the most of a view's width over its height."""
FRAMES_BETWEEN = 36
"""Of a camera path, from one kept view to the next."""
PORT, PATH = 8080, "path.mp4"
Place = tuple[float, float, float]
"""Elevation and azimuth in degrees, and the distance to the origin."""


def to_place(position: Float[np.ndarray, "3"]) -> Place:
    """Where a camera is, of its position in the world."""
    x, y, z = map(float, position)
    flat = math.hypot(x, z)
    return math.degrees(math.atan2(y, flat)), math.degrees(math.atan2(x, z)), max(math.hypot(flat, y), NEAREST)


def path_between(places: list[Place], frames: int, fov_y: float, size: int) -> Cameras:
    """Square cameras through all places, with `frames` steps from one to the next, the short way round."""
    table = torch.tensor(places)
    turns = torch.diff(table[:, 1])
    table[1:, 1] = table[0, 1] + (turns - 360.0 * (turns / 360.0).round()).cumsum(0)
    steps = torch.arange(frames) / frames
    between = [first + (last - first) * steps[:, None] for first, last in pairwise(table)]
    elevation, azimuth, radius = torch.cat([*between, table[-1:]]).unbind(-1)
    return Cameras.orbit(elevation=elevation, azimuth=azimuth, radius=radius, fov_y=fov_y, size=size)


class LiveView:
    """A server of one run's views, on this machine only.

    Args:
        folder: the run's, where a camera path is written.
        camera: the distance and field of view at first.
        elevation: in degrees, at first.
        port: where it listens; the next free one if it is taken.
    """

    def __init__(self, folder: Path, camera: CameraSamplerConfig, elevation: float, port: int = PORT) -> None:
        viser = import_extra("viser", "viewer", "the live view")
        self.folder, self.camera, self.elevation = folder, camera, elevation
        self.render: RenderViews | None = None
        self._places: list[Place] = []
        self._film_due = False
        self._started, self._spent, self._height = time.perf_counter(), 0.0, HEIGHTS[1]
        self._sent: dict[int, tuple[Place, float, int]] = {}
        self.server = viser.ViserServer("127.0.0.1", port, label="hash3d", verbose=False)
        self.url = f"http://127.0.0.1:{self.server.get_port()}"
        self.server.scene.set_up_direction("+y")
        self.server.on_client_connect(self._place_client)
        gui = self.server.gui
        self._said = gui.add_markdown("loading")
        self.pause, self.stopped = gui.add_checkbox("pause", initial_value=False), False
        gui.add_button("add this view to a path").on_click(lambda event: self.add_place(event.client))
        gui.add_button(f"write the path to {PATH}").on_click(lambda _: setattr(self, "_film_due", True))
        gui.add_button("stop, and keep what there is").on_click(lambda _: self.stop())

    def _place_client(self, client: Any) -> None:
        camera = Cameras.orbit(elevation=self.elevation, azimuth=0.0, radius=self.camera.radius, fov_y=1.0, size=1)
        client.camera.position, client.camera.look_at = camera.eyes[0].numpy(), np.zeros(3)
        client.camera.fov = math.radians(self.camera.fov_y)

    def stop(self) -> None:
        """End the run as Ctrl+C does: after its step, with its files. Once: a second Ctrl+C would quit at once."""
        if not self.stopped:
            self.stopped = True
            signal.raise_signal(signal.SIGINT)

    def add_place(self, client: Any) -> None:
        """Keep where a visitor's camera is."""
        self._places.append(to_place(client.camera.position))
        self.say(f"{len(self._places)} views in the path")

    def say(self, text: str) -> None:
        """Show a sentence."""
        self._said.content = text

    def __call__(self, trainer: Trainer, metrics: Metrics) -> None:
        """Show a step of a run, and wait while the run is paused."""
        if self._spent <= SHARE * (time.perf_counter() - self._started):
            self.say(f"step {int(metrics['step']) + 1} of {trainer.recipe.steps}, loss {metrics['loss']:.3f}")
            started = time.perf_counter()
            self.render = colors(show_model(trainer.scene.model, trainer.stage, trainer.prior))
            self.draw(fresh=True)
            self._spent += time.perf_counter() - started
        if self.pause.value:
            paused = time.perf_counter()
            self.wait(lambda: self.pause.value and not self.stopped)
            self._started += time.perf_counter() - paused

    def wait(self, go_on: Callable[[], bool]) -> None:
        """Show a model that does not change, as long as `go_on` says."""
        while go_on():
            self.draw(fresh=False)
            time.sleep(0.02)

    def draw(self, *, fresh: bool) -> None:
        """Send its view to each visitor who has moved, to all if the model is `fresh`."""
        if self._film_due:
            self._film_due = False
            self.film()
        for number, client in self.server.get_clients().items():
            place, fov = to_place(client.camera.position), math.degrees(client.camera.fov)
            resting = not fresh and self._sent.get(number, ())[:2] == (place, fov)
            height = HEIGHTS[0] if resting else self._height
            if self.render is None or (not fresh and self._sent.get(number) == (place, fov, height)):
                continue
            self._sent[number] = place, fov, height
            cameras = Cameras.orbit(elevation=place[0], azimuth=place[1], radius=place[2], fov_y=fov, size=height)
            width = max(round(height * min(client.camera.aspect, WIDEST)), 1)
            before = time.perf_counter()
            (image,) = render_each(self.render, replace(cameras, width=width))
            if not resting and time.perf_counter() - before > MOVING_SECONDS:
                self._height = HEIGHTS[2]
            client.scene.set_background_image(to_bytes(image), format="jpeg")

    def film(self) -> Path | None:
        """Render the path of kept views to a video in the run's folder; None with fewer than two."""
        if len(self._places) < 2 or self.render is None:
            self.say("Add two views or more to the path first.")
            return None
        cameras = path_between(self._places, FRAMES_BETWEEN, self.camera.fov_y, HEIGHTS[0])
        write_video(render_each(self.render, cameras), path := self.folder / PATH)
        self.say(f"wrote {path}")
        return path

    def close(self) -> None:
        """End the server."""
        self.server.stop()
