"""Times of steps and of their parts."""

import torch

from hash3d.bench.step_times import StepTimes


def test_step_times_keep_the_steps_apart():
    times = StepTimes(torch.device("cpu"))
    for parts in (("render", "render"), ("unet",)):
        times.mark_step()
        for part in parts:
            with times.part(part):
                pass
    times.mark_step()
    (first_ms, first), (second_ms, second) = times.take()
    assert (set(first), set(second)) == ({"render"}, {"unet"})
    assert first["render"] <= first_ms
    assert second["unet"] <= second_ms
    assert times.take() == []
