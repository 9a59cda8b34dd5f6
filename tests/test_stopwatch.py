"""Seconds by part."""

import pytest
import torch

from hash3d import stopwatch as module
from hash3d.stopwatch import Stopwatch


class Device:
    """A GPU that has got as far as `now`; its clock shows milliseconds."""

    def __init__(self):
        self.given, self.now = 0.0, 0.0

    def event(self, enable_timing):
        assert enable_timing
        return Event(self)


class Event:
    def __init__(self, device):
        self.device, self.time = device, None

    def record(self):
        self.time = self.device.given

    def query(self):
        return self.device.now >= self.time

    def synchronize(self):
        self.device.now = max(self.device.now, self.time)

    def elapsed_time(self, last):
        assert self.query()
        assert last.query(), "the host would wait"
        return last.time - self.time


@pytest.fixture
def device(monkeypatch):
    device = Device()
    monkeypatch.setattr(module.torch.cuda, "Event", device.event)
    return device


def test_events_that_the_gpu_has_passed_are_counted_without_waiting(device):
    stopwatch = Stopwatch("cuda")
    for _ in range(100):
        with stopwatch.part("unet"):
            device.given += 10.0
        device.now = device.given - 35.0  # The host is three parts and a half ahead.
    assert len(stopwatch._parts) <= 5
    assert device.now == device.given - 35.0
    assert stopwatch.seconds() == {"unet": pytest.approx(1.0)}
    assert device.now == device.given


def test_seconds_add_up_by_part(device):
    stopwatch = Stopwatch("cuda")
    stopwatch.add({"render": 2.0})
    for name, length in (("render", 100.0), ("unet", 200.0), ("render", 300.0)):
        with stopwatch.part(name):
            device.given += length
    assert stopwatch.seconds() == {"render": pytest.approx(2.4), "unet": pytest.approx(0.2)}


def test_a_cpu_has_no_events(monkeypatch):
    monkeypatch.setattr(torch.cuda, "Event", None)
    stopwatch = Stopwatch()
    with stopwatch.part("render"):
        pass
    assert stopwatch.seconds()["render"] >= 0.0
