"""The live view of a run. Its server is a fake of viser 1.1's: a browser is not needed."""

import dataclasses
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from hash3d.cameras import Cameras, CameraSamplerConfig
from hash3d.cli import live
from hash3d.cli.live import LiveView, path_between, to_place
from hash3d.export.turntable import to_bytes
from hash3d.scenes.build import show_model
from hash3d.training.run import Run
from hash3d.training.trainer import Trainer
from hash3d.training.watch import Metrics
from tests.cli.conftest import assert_refused

CAMERA = CameraSamplerConfig(radius=2.0, fov_y=40.0)


class Handle(SimpleNamespace):
    """A button, a checkbox or a text."""

    def on_click(self, call):
        self.click = call


class Server:
    """One visitor, and what is sent to it."""

    def __init__(self, host, port, **_):
        assert host == "127.0.0.1"
        self.sent, self.handles, self.port = [], {}, port
        scene = SimpleNamespace(set_background_image=lambda image, format: self.sent.append(image))
        self.client = SimpleNamespace(camera=SimpleNamespace(aspect=1.5), scene=scene)
        self.scene, self.gui = SimpleNamespace(set_up_direction=lambda _: None), self

    def on_client_connect(self, call):
        call(self.client)

    def get_clients(self):
        return {0: self.client}

    def get_port(self):
        return self.port

    def add_markdown(self, content):
        return Handle(content=content)

    def add_checkbox(self, name, initial_value):
        return self.handles.setdefault(name, Handle(value=initial_value))

    def add_button(self, name):
        return self.handles.setdefault(name.split(",")[0].removesuffix(" to path.mp4"), Handle())

    def stop(self):
        self.stopped = True


@pytest.fixture
def view(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "viser", SimpleNamespace(ViserServer=Server))
    monkeypatch.setattr(live, "HEIGHTS", (32, 16, 8))
    return LiveView(tmp_path, CAMERA, elevation=20.0)


def test_a_place_is_that_of_its_camera():
    cameras = Cameras.orbit(elevation=[20.0, -80.0], azimuth=[30.0, -100.0], radius=[2.0, 0.5], fov_y=40.0, size=8)
    for index, expected in enumerate([(20.0, 30.0, 2.0), (-80.0, -100.0, 0.5)]):
        assert to_place(cameras.eyes[index].numpy()) == pytest.approx(expected, rel=1e-5)  # Of float32.
    assert to_place(np.array([0.0, -3.0, 0.0])) == (-90.0, 0.0, 3.0)
    assert to_place(np.zeros(3))[2] > 0


def test_a_path_goes_the_short_way_round():
    cameras = path_between([(0.0, 170.0, 2.0), (10.0, -170.0, 1.0), (10.0, 170.0, 1.0)], 2, fov_y=40.0, size=8)
    assert cameras.azimuth.tolist() == pytest.approx([170.0, 180.0, 190.0, 180.0, 170.0])
    assert cameras.elevation.tolist() == pytest.approx([0.0, 5.0, 10.0, 10.0, 10.0])
    assert cameras.radius.tolist() == pytest.approx([2.0, 1.5, 1.0, 1.0, 1.0])


def test_a_run_is_seen_from_the_visitor_s_place_and_its_numbers_stay(view, tiny_recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(live, "SHARE", math.inf)
    recipe = dataclasses.replace(tiny_recipe, stage=dataclasses.replace(tiny_recipe.stage, steps=3))
    losses = {"seen": [], "unseen": []}
    for name, show in (("unseen", lambda *_: None), ("seen", view)):

        def note(trainer, metrics, name=name, show=show):
            losses[name].append(float(metrics["loss"]))
            show(trainer, metrics)

        run = Run(recipe, tmp_path / name, progress=note)
        run.train()
    assert losses["seen"] == losses["unseen"]
    assert len(view.server.sent) == 3
    assert view._said.content.startswith("step 3 of 3, loss ")
    cameras = Cameras.orbit(elevation=20.0, azimuth=0.0, radius=2.0, fov_y=40.0, size=16)
    show = show_model(run.trainer.scene.model, run.trainer.stage, run.prior)
    with torch.no_grad():
        image = to_bytes(show(cameras).color[0])
    found = view.server.sent[-1]
    assert found.shape == (16, 24, 3)
    assert np.abs(found[:, 4:-4].astype(int) - image).max() <= 1  # The same focal length; the angles are rounded.


def test_views_take_their_share_of_the_time_and_no_more(view, monkeypatch):
    """Steps of 1 s, views of 10 s, by a clock of its own: the share of views stays below 4 % and one view."""
    clock = [0.0]
    monkeypatch.setattr(live.time, "perf_counter", lambda: clock[0])

    def render(cameras):
        clock[0] += 10.0
        return torch.zeros(len(cameras), cameras.height, cameras.width, 3)

    monkeypatch.setattr(live, "show_model", lambda *_: None)
    monkeypatch.setattr(live, "colors", lambda _: render)
    trainer, view._started = object.__new__(Trainer), 0.0
    vars(trainer).update(recipe=SimpleNamespace(steps=1000), scene=SimpleNamespace(model=None), stage=None, prior=None)
    for step in range(1000):
        view(trainer, Metrics({"step": float(step), "loss": 1.0}))
        clock[0] += 1.0
    count = len(view.server.sent)
    assert 0.03 * clock[0] < 10.0 * count <= 0.04 * clock[0] + 10.0
    assert view.server.sent[0].shape[0] == 16
    assert view.server.sent[1].shape[0] == 8  # The first was slow.


def test_a_pause_shows_what_is_asked_for(view):
    """Once as the visitor moves, once sharper at rest, and no more until it moves again."""
    view.server.client.camera.aspect = 1e9  # As no window is.
    view.render, looks = (lambda cameras: torch.zeros(1, cameras.height, cameras.width, 3)), []

    def go_on():
        looks.append(len(view.server.sent))
        if len(looks) == 4:
            view.server.client.camera.position = np.array([0.0, 0.0, 3.0])
        return len(looks) < 7

    view.wait(go_on)
    assert looks == [0, 1, 2, 2, 3, 4, 4]
    assert [image.shape[:2] for image in view.server.sent] == [(16, 64), (32, 128)] * 2


def test_the_stop_button_ends_a_paused_run_and_keeps_it(view, tiny_recipe, tmp_path, heeded_signals):
    view.pause.value = True

    def show(trainer, metrics):
        for _ in range(2):
            view.server.handles["stop"].click(None)
        view(trainer, metrics)

    summary = Run(tiny_recipe, tmp_path / "run", progress=show).execute()
    assert (summary["completed"], summary["steps"]) == (False, 1)
    assert (tmp_path / "run/model.ply").exists()


def test_a_path_of_kept_views_is_filmed(view, tmp_path):
    view.render = lambda cameras: torch.zeros(1, cameras.height, cameras.width, 3)
    add, write = (view.server.handles[f"{name} path"] for name in ("add this view to a", "write the"))
    event = SimpleNamespace(client=view.server.client)
    for count in range(3):
        write.click(event)
        view.draw(fresh=False)  # In the thread that renders.
        assert (tmp_path / "path.mp4").exists() is (count == 2)
        add.click(event)
    view.close()


def test_without_viser_the_command_that_brings_it_is_told(hash3d, monkeypatch, picture_file, prior_folder, tmp_path):
    monkeypatch.setitem(sys.modules, "viser", None)
    options = ["--image", picture_file, "--prior", prior_folder, "--scale", "mini", "--out", tmp_path / "run"]
    result = hash3d("generate", "zero123_gs", *options, "--view")
    assert_refused(result, r'viser.* is missing\. Run .* pip install "hash3d\[viewer\]"')
    assert not (tmp_path / "run").exists()
