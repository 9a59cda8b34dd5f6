"""What changes in a U-Net after features were kept, and what a view and its call disagree on, is never a silent hit."""

import copy

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.resnet import ResnetBlock2D

from hash3d import apply_hash3d, remove_hash3d
from hash3d.unet.watch import CUTS, SLICES, ModelWatch
from tests.tiny_models import alike, predict, small_unet, unet_inputs
from tests.unet.changes import (
    CHANGES,
    deep,
    exchange_class,
    hook_after,
    pad_in_circles,
    patch_forward,
    put_layer_unseen,
    register_config,
    scale_output,
    train_a_block,
    write_in_place,
)


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("scope", [None, "a cat"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_model_runs_in_full_and_hits_again_afterwards(change, scope, frozen):
    unet = small_unet().requires_grad_(not frozen)
    cache, inputs = apply_hash3d(unet), alike(unet)
    for _ in range(2):
        predict(unet, cache, inputs, scope=scope)
    assert cache.statistics.shallow == 1
    handle = change(unet)
    try:
        found = predict(unet, cache, inputs, scope=scope)
        assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)
        predict(unet, cache, inputs, scope=scope)
        assert cache.statistics.shallow == 2
        remove_hash3d(unet)
        assert torch.equal(unet(**inputs).sample, found)
    finally:
        if handle is not None:
            handle.remove()


def test_weights_made_in_inference_mode_have_no_versions_and_serve():
    with torch.inference_mode():
        unet = small_unet()
        assert all(each.is_inference() and each.requires_grad for each in unet.parameters())
        inputs = alike(unet)
        expected = unet(**inputs).sample
        cache = apply_hash3d(unet)
        for _ in range(2):
            torch.testing.assert_close(predict(unet, cache, inputs), expected)
        assert cache.statistics.shallow == 1


def state_of(watch, *, look=False):
    """What a feature depends on, after another look if that is asked for."""
    if look:
        watch.look()
        watch.rest()
    return watch.epoch, watch.writes, watch.settings


class Louder(torch.nn.Module):
    """A layer whose strength is a buffer."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.register_buffer("strength", torch.ones(1))

    def forward(self, *args):
        return self.strength * self.layer(*args)


@pytest.mark.parametrize("change", [
    lambda layer: layer.strength.mul_(2.0), lambda layer: setattr(layer, "strength", torch.zeros(1)),
])  # fmt: skip
def test_a_buffer_counts_as_a_weight(change):
    unet = small_unet()
    deep(unet).conv1 = Louder(deep(unet).conv1)
    cache, inputs = apply_hash3d(unet), alike(unet)
    predict(unet, cache, inputs)
    change(deep(unet).conv1)
    predict(unet, cache, inputs)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 0)


class Strength:
    def __init__(self, value):
        self.value = value


class Merged(ResnetBlock2D):
    """A layer whose options lie somewhere inside of an attribute, as where tokens are merged."""

    gain = 1.0

    def forward(self, *args, **kwargs):
        factor = self.gain * self.options["merge"]["ratio"] * self.strength.value
        for layer in self.__dict__.get("unregistered", ()):
            factor = factor * layer.weight.mean()
        return factor * super().forward(*args, **kwargs)


@pytest.mark.parametrize("change", [
    lambda layer: layer.options["merge"].update(ratio=2.0), lambda layer: setattr(layer.strength, "value", 2.0),
    lambda layer: setattr(Merged, "gain", Merged.gain + 1.0),
    lambda layer: torch.nn.init.constant_(layer.unregistered[0].weight, 3.0),
])  # fmt: skip
def test_options_inside_an_attribute_and_of_the_class_count(change):
    unet = small_unet()
    deep(unet).options, deep(unet).strength = {"merge": {"ratio": 1.0}}, Strength(1.0)
    deep(unet).unregistered = [torch.nn.Linear(2, 2)]
    deep(unet).__class__ = Merged
    cache, inputs = apply_hash3d(unet), alike(unet)
    for _ in range(2):
        predict(unet, cache, inputs)
    change(deep(unet))
    predict(unet, cache, inputs)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)


def test_a_hook_that_goes_is_seen_too():
    unet = small_unet()
    handle = deep(unet).register_forward_hook(lambda module, inputs, output: 2.0 * output)
    cache, inputs = apply_hash3d(unet), alike(unet)
    predict(unet, cache, inputs)
    handle.remove()
    predict(unet, cache, inputs)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 0)


class Scaled(AttnProcessor2_0):
    """A processor whose strength lies somewhere inside of it."""

    def __init__(self):
        super().__init__()
        self.settings = {"strength": torch.ones(1)}
        self.controller = type("Controller", (), {})()
        self.controller.strength = 1.0

    def __call__(self, attn, hidden_states, *args, **kwargs):
        strength = self.settings["strength"] * self.controller.strength
        return strength * super().__call__(attn, hidden_states, *args, **kwargs)


@pytest.mark.parametrize("change", [
    lambda processor: processor.settings.update(strength=torch.zeros(1)),
    lambda processor: processor.settings["strength"].mul_(3.0),
    lambda processor: setattr(processor.controller, "strength", 2.0),
])  # fmt: skip
def test_state_inside_a_processor_counts(change):
    unet, processor = small_unet(), Scaled()
    unet.set_attn_processor(processor)
    cache, inputs = apply_hash3d(unet), alike(unet)
    for _ in range(2):
        predict(unet, cache, inputs, scope="a cat")
    change(processor)
    predict(unet, cache, inputs, scope="a cat")
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)


def test_reset_is_how_a_write_is_told_that_no_one_can_see():
    """One number in the middle of a weight."""
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    predict(unet, cache, inputs)
    deep(unet).conv1.weight.data[-1, -1] += 1.0
    cache.reset()
    found = predict(unet, cache, inputs)
    assert cache.statistics.full == 2
    remove_hash3d(unet)
    assert torch.equal(unet(**inputs).sample, found)


def test_what_was_edited_while_the_cache_was_off_is_not_answered_by_it():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    predict(unet, cache, inputs)
    remove_hash3d(unet)
    write_in_place(unet)
    apply_hash3d(unet, cache)
    predict(unet, cache, inputs)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 0)


@pytest.mark.parametrize("change", [
    write_in_place, put_layer_unseen, patch_forward, exchange_class, scale_output, pad_in_circles, train_a_block,
])  # fmt: skip
def test_away_from_the_host_one_layer_is_seen_within_as_many_calls_as_there_are_slices(change):
    unet = small_unet().requires_grad_(False).to("meta")
    watch = ModelWatch(unet)
    before = [state_of(watch, look=True) for _ in range(SLICES + 1)]
    assert before == before[:1] * len(before)
    change(unet)
    after = [state_of(watch, look=True) for _ in range(2 * SLICES)]
    assert before[0] not in after[SLICES - 1 :]
    assert len({*after[SLICES:]}) == 1


def write_all(unet):
    torch._foreach_mul_(list(unet.parameters()), 2.0)


def pad_all_in_circles(unet):
    for layer in unet.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.padding_mode = "circular"


@pytest.mark.parametrize(
    "change", [lambda unet: [weight.mul_(2.0) for weight in unet.parameters()], pad_all_in_circles]
)
def test_away_from_the_host_a_change_of_many_layers_is_one_change(change):
    unet = small_unet().requires_grad_(False).to("meta")
    watch = ModelWatch(unet)
    before = state_of(watch)
    change(unet)
    assert len({state_of(watch, look=True) for _ in range(2 * SLICES)} - {before}) == 1


def put_layer_in_sight(unet):
    deep(unet).conv1 = copy.deepcopy(deep(unet).conv1)


@pytest.mark.parametrize("change", [
    write_all, lambda unet: unet.conv_out.weight.mul_(2.0),
    lambda unet: unet.enable_freeu(0.9, 0.2, 1.2, 1.4), lambda unet: unet.set_attn_processor(AttnProcessor()),
    lambda unet: unet.train(), put_layer_in_sight, hook_after, register_config,
])  # fmt: skip
def test_away_from_the_host_a_change_of_the_whole_model_or_of_what_learns_is_seen_at_once(change):
    unet = small_unet().requires_grad_(False).to("meta")
    unet.conv_out.requires_grad_()
    watch = ModelWatch(unet)
    before = state_of(watch)
    with torch.no_grad():
        change(unet)
    assert state_of(watch, look=True) != before


def test_away_from_the_host_lists_that_a_pass_puts_together_are_no_reason_to_look_at_all_layers(monkeypatch):
    """A middle block's `self.resnets[1:]` is a new list of layers in each pass."""
    watch, looked = ModelWatch(small_unet().requires_grad_(False).to("meta")), []
    list_parts = watch._list_parts
    monkeypatch.setattr(watch, "_list_parts", lambda cut: looked.append(cut) or list_parts(cut))
    for _ in range(2):
        watch.unet.mid_block.resnets[1:]
        watch.look()
        watch.unet.mid_block.resnets[1:]
        watch.rest()
        watch.look()
        watch.rest()
    assert [cut == CUTS[-1] for cut in looked] == [True, False] * 2


def test_a_model_that_is_checked_now_and_then_runs_in_full_from_the_next_check_on():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    unet.forward.check_every = 4
    predict(unet, cache, inputs, scope="a cat")
    write_in_place(unet)
    shallow = []
    for _ in range(5):
        found = predict(unet, cache, inputs, scope="a cat")
        shallow.append(cache.statistics.shallow)
    assert shallow == [1, 2, 3, 3, 4]
    remove_hash3d(unet)
    assert torch.equal(unet(**inputs).sample, found)


def test_between_two_checks_scopes_branches_and_sizes_are_kept_apart_as_ever():
    unet, found = small_unet(), []
    views = [("a cat", 1), ("a dog", 1), ("a cat", 2), ("a dog", 1), ("a cat", 1), (None, 1), ("a cat", 2)]
    for every in (1, 16):
        cache = apply_hash3d(unet)
        unet.forward.check_every = every
        for number, (scope, count) in enumerate(views):
            view = cache.view(elevation=[5.0] * count, azimuth=5.0, radius=1.5, timestep=400, scope=scope)
            with torch.no_grad(), view:
                for branch in range(2):
                    inputs = unet_inputs(unet, views=count, branches=1, seed=10 * number)
                    inputs["encoder_hidden_states"] += branch
                    found.append(unet(**inputs).sample)
        found.append(cache.statistics.shallow)
        remove_hash3d(unet)
    half = len(found) // 2
    assert found[half - 1] == found[-1] > 0
    assert all(map(torch.equal, found[: half - 1], found[half:-1]))
