"""Views of calls, their timesteps and branches; values as plain ones that are the same for the same inputs."""

import subprocess
import sys

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.cache.calls import describe
from tests.tiny_models import VIEW, alike, predict, tiny_unet, unet_inputs


def test_a_scope_that_is_new_at_each_look_is_refused():
    many = type("Many", (), {})()
    many.parts = [type("Part", (), {})() for _ in range(2000)]
    with pytest.raises(ValueError, match="scope that says the same when it is asked twice, but got a Many"):
        Hash3DConfig().build().view(elevation=0, azimuth=0, radius=1, scope=many)


def test_a_timestep_that_is_not_the_views_keeps_features_of_its_own(recwarn):
    unet = tiny_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    for timestep, expected in ((400, 0), (700, 0), (700, 1), (400, 2)):
        predict(unet, cache, {**inputs, "timestep": timestep})
        assert cache.statistics.shallow == expected
    assert sum("another timestep than the U-Net" in str(each.message) for each in recwarn) == 1


def test_branches_of_unlike_timesteps_meet_only_the_same_ones():
    unet = tiny_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    for timesteps, expected in (([400, 400], 0), ([400, 700], 0), ([400, 700], 1), ([400, 400], 2)):
        predict(unet, cache, {**inputs, "timestep": torch.tensor(timesteps)}, timestep=None)
        assert cache.statistics.shallow == expected


def test_branches_of_unlike_latents_are_told_at_the_callers_line(recwarn):
    unet = tiny_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    inputs["sample"][1] += 1.0
    for _ in range(2):
        with torch.no_grad(), cache.view(**VIEW):
            unet(**inputs)
    told = [each for each in recwarn if "branches of a view have different noisy latents" in str(each.message)]
    assert [each.filename for each in told] == [__file__]


@pytest.mark.parametrize(("places", "rows"), [
    ({"azimuth": [10.0, 10.0]}, [0, 0]),  # One view, its angles doubled for guidance.
    ({"azimuth": [10.0, 50.0, 90.0, 130.0]}, [0, 1, 0, 1]),  # Two views of four, each with two branches.
])  # fmt: skip
def test_views_of_like_latents_are_told_at_the_callers_line(places, rows, recwarn):
    unet = tiny_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet, views=len(rows), branches=1)
    inputs["sample"] = inputs["sample"][rows]
    for _ in range(2):
        with torch.no_grad(), cache.view(**{**VIEW, **places}):
            unet(**inputs)
    told = [each for each in recwarn if "Two views of a call have the same noisy latents" in str(each.message)]
    assert [each.filename for each in told] == [__file__]


@pytest.mark.parametrize("order", ["grouped", "interleaved"])
def test_of_views_of_other_latents_nothing_is_told(order, recwarn):
    unet = tiny_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet, views=2)
    inputs["sample"] = inputs["sample"][[0, 1, 0, 1] if order == "grouped" else [0, 0, 1, 1]]
    predict(unet, cache, inputs, azimuth=[10.0, 50.0], branch_order=order)
    assert not any("latents" in str(each.message) for each in recwarn)


def test_a_view_may_be_kept_and_entered_again_but_not_inside_itself():
    cache = Hash3DConfig().build()
    view = cache.view(**VIEW)
    for _ in range(2):
        with view:
            assert cache.current_view.timesteps == [400.0]
        assert cache.current_view is None
    with view, pytest.raises(RuntimeError, match="entered inside another"), view:
        pass
    assert cache.current_view is None


REFUSED = {
    "float('nan')": "ValueError: Expected finite numbers of azimuth",
    "[1.0, float('inf')]": "ValueError: Expected finite numbers of azimuth",
    "[]": "ValueError: Expected finite numbers of azimuth, at least one",
    "(number for number in (1.0, 2.0))": "TypeError: Expected azimuth as a number",
    "None": "TypeError: Expected azimuth as a number, or a sequence or tensor of numbers, but got NoneType",
    "'east'": "TypeError: Expected azimuth as a number, or a sequence or tensor of numbers, but got str",
}
VIEW_OF_EACH = """
from hash3d import Hash3DConfig
cache = Hash3DConfig().build()
for azimuth in ({},):
    try:
        cache.view(elevation=0, azimuth=azimuth, radius=1)
    except Exception as error:
        print(f"{{type(error).__name__}}: {{error}}")
"""


def test_angles_that_are_no_numbers_are_refused_by_name():
    """In a process of its own, where no type checker of the tests speaks first."""
    code = VIEW_OF_EACH.format(", ".join(REFUSED))
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    for line, expected in zip(told, REFUSED.values(), strict=True):
        assert line.startswith(expected)


def test_a_scope_that_is_changed_in_place_is_another():
    class Prompt:
        def __init__(self):
            self.words = ["a", "cat"]

    unet, prompt = tiny_unet(), Prompt()
    cache, inputs = apply_hash3d(unet), alike(unet)
    for _ in range(2):
        predict(unet, cache, inputs, scope=prompt)
    prompt.words.append("asleep")
    predict(unet, cache, inputs, scope=prompt)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)


class Elsewhere(torch.Tensor):
    """A tensor that says it lies on a GPU: its numbers must not be read."""

    @property
    def device(self):
        return torch.device("cuda")


def test_a_tensor_on_a_gpu_is_known_by_its_memory_and_version_alone():
    tensor = torch.zeros(4, 3).as_subclass(Elsewhere)
    rows = range(0, 4, 2)
    first = describe(tensor, rows, 4)
    assert describe(tensor, rows, 4) == first
    assert describe(tensor, range(1, 4, 2), 4) != first, "another view's rows"
    assert describe(tensor.clone(), rows, 4) != first, "the same numbers elsewhere"
    tensor.add_(0.0)
    assert describe(tensor, rows, 4) != first, "written again"
    expanded = torch.zeros(1, 3).as_subclass(Elsewhere).expand(4, 3)
    assert describe(expanded, rows, 4) == describe(expanded, range(1, 4, 2), 4), "one row for all"


def test_the_memory_of_a_tensor_that_has_gone_is_not_taken_for_it():
    seen = set()
    for _ in range(50):
        name = repr(describe(torch.zeros(1000).as_subclass(Elsewhere)))
        assert name not in seen
        seen.add(name)


def test_a_tensor_made_in_inference_mode_is_known_by_its_numbers_or_not_at_all():
    with torch.inference_mode():
        host = torch.zeros(3)
    assert describe(host) == describe(torch.zeros(3))
    assert describe(host.as_subclass(Elsewhere)) != describe(host.as_subclass(Elsewhere))
