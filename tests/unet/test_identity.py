"""What a feature depends on besides the view: prompts, other conditioning inputs, adapters, weights, processors."""

import copy
import warnings
from array import array
from collections import deque
from types import MappingProxyType

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from hash3d import Hash3DConfig, apply_hash3d, remove_hash3d
from tests.tiny_models import VIEW, alike, predict, small_unet, unet_inputs
from tests.unet.changes import write_in_place


def hits(cache):
    return cache.statistics.shallow


def change_prompt(unet, inputs):
    inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"] + 1.0


def change_prompt_in_place(unet, inputs):
    inputs["encoder_hidden_states"].mul_(2.0)


def change_prompt_behind_its_version(unet, inputs):
    inputs["encoder_hidden_states"].data.mul_(2.0)


def mask_words(unet, inputs):
    inputs["encoder_attention_mask"] = torch.tensor([[1, 1, 0, 0, 0]] * 2)


def write_a_weight(unet, inputs):
    with torch.no_grad():
        unet.mid_block.resnets[0].conv1.weight.mul_(2.0)


def exchange_a_layer(unet, inputs):
    unet.mid_block.resnets[0].conv1 = torch.nn.Conv2d(16, 16, 3, padding=1)


def exchange_processors(unet, inputs):
    class Silent(AttnProcessor2_0):
        def __call__(self, attn, hidden_states, *args, **kwargs):
            return 0 * hidden_states

    unet.set_attn_processor(Silent())


def switch_on_freeu(unet, inputs):
    unet.enable_freeu(s1=0.5, s2=0.4, b1=1.5, b2=1.6)


def train(unet, inputs):
    unet.train()


def scale_in_call(unet, inputs):
    inputs["cross_attention_kwargs"] = {"scale": 0.5}


CHANGES = [
    change_prompt, change_prompt_in_place, change_prompt_behind_its_version, mask_words, write_a_weight,
    exchange_a_layer, exchange_processors, switch_on_freeu, train, scale_in_call,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_changes_the_prediction_is_not_answered_by_what_was_kept(change):
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    for _ in range(2):
        predict(unet, cache, inputs)
    assert hits(cache) == 1
    change(unet, inputs)
    predict(unet, cache, inputs)
    assert (hits(cache), cache.statistics.full) == (1, 2)
    predict(unet, cache, inputs)
    assert hits(cache) == 2


def test_new_processors_of_the_same_kind_change_nothing():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    for kind, expected in ((AttnProcessor2_0, 0), (AttnProcessor2_0, 1), (AttnProcessor, 1)):
        unet.set_attn_processor(kind())
        predict(unet, cache, inputs)
        assert hits(cache) == expected


@pytest.mark.parametrize("scoped", [False, True])
def test_two_prompts_in_turn_keep_their_features(scoped):
    unet = small_unet()
    cache = apply_hash3d(unet)
    prompts = [unet_inputs(unet, seed=seed) for seed in (0, 1)]
    for _ in range(5):
        for number, inputs in enumerate(prompts):
            predict(unet, cache, inputs, scope=number if scoped else None)
    assert (cache.statistics.full, hits(cache)) == (2, 8)


@pytest.mark.parametrize("scope", [None, "a cat"])
def test_two_branches_in_two_calls_of_a_view_are_told_apart(scope):
    unet = small_unet()
    given = unet_inputs(unet)
    given["sample"][1] = given["sample"][0]
    branches = [{name: value[row : row + 1] for name, value in given.items()} for row in (0, 1)]
    expected = [unet(**branch).sample.detach() for branch in branches]
    cache = apply_hash3d(unet)
    for _ in range(3):
        with torch.no_grad(), cache.view(**VIEW, scope=scope):
            for branch, wanted in zip(branches, expected, strict=True):
                assert torch.allclose(unet(**branch).sample, wanted, atol=1e-6)
    assert (cache.statistics.full, hits(cache)) == (2, 4)


def test_each_view_has_its_own_rows_of_the_conditioning():
    """The second view's prompt changes, the first one's does not: it hits."""
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet, views=2)
    places = {"azimuth": [0.0, 90.0]}
    predict(unet, cache, inputs, **places)
    inputs["encoder_hidden_states"][1] += 1.0
    predict(unet, cache, inputs, **places)
    assert (cache.statistics.full, hits(cache)) == (3, 1)


@pytest.mark.parametrize(("given", "predicted", "noisy"), [(8, 4, 4), (6, 6, 3), (9, 8, 4), (3, 6, 3)])
def test_channels_beside_the_noisy_latents_are_conditioning(given, predicted, noisy):
    """A reference image or a mask in the sample: known by its numbers if no scope vouches for it.

    Zero123; DeepFloyd IF's second stage, Kandinsky's inpainting, IF's first, which predict a variance too.
    """
    unet = small_unet(in_channels=given, out_channels=predicted)
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    for change, expected in ((0.0, 0), (0.0, 1), (1.0, 1 if given > noisy else 2)):
        inputs["sample"] = inputs["sample"].clone()
        inputs["sample"][:, :noisy] += 0.1
        inputs["sample"][:, noisy:] += change
        predict(unet, cache, inputs)
        assert hits(cache) == expected


def test_context_of_another_length_starts_anew_also_in_one_scope():
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    predict(unet, cache, inputs, scope="a cat")
    inputs["encoder_hidden_states"] = inputs["encoder_hidden_states"][:, :3]
    predict(unet, cache, inputs, scope="a cat")
    assert (cache.statistics.full, hits(cache), len(cache.store.entries())) == (2, 0, 1)


def test_inputs_that_are_new_in_every_call_are_told_once(recwarn):
    unet = small_unet()
    cache = apply_hash3d(unet)
    for seed in range(20):
        predict(unet, cache, unet_inputs(unet, seed=seed))
    assert [str(each.message) for each in recwarn if "last 8 U-Net calls were never seen before" in str(each.message)]
    assert sum("say in cache.view(scope=...)" in str(each.message) for each in recwarn) == 1
    assert hits(cache) == 0


class Word:
    def __init__(self, text):
        self.text = text

    def __eq__(self, other):
        return self.text == other.text

    __hash__ = None


@pytest.mark.parametrize("make", [
    lambda text: text, lambda text: [text, {"weight": 2}], lambda text: {text, "of"}, Word,
    lambda text: torch.tensor([len(text), ord(text[0])]), lambda text: (torch.tensor(ord(text[0])), text),
    deque, lambda text: bytearray(text.encode()), lambda text: array("b", text.encode()),
    lambda text: memoryview(bytearray(text.encode())),
    lambda text: {text: 0}.keys(), lambda text: np.ma.array([0, 1], mask=[text == "cat", False]),
    lambda text: np.array([(ord(text[0]),)], dtype=[("letter", "i4")]),
])  # fmt: skip
def test_a_scope_is_any_value_and_counts_by_what_it_says(make):
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    for text, expected in (("cat", 0), ("cat", 1), ("dog", 1), ("cat", 2)):
        predict(unet, cache, inputs, scope=make(text))
        assert hits(cache) == expected


def test_lists_and_mappings_of_tensors_are_split_by_view():
    unet = small_unet()
    inputs, seen = unet_inputs(unet, views=2), []
    images = torch.arange(4.0)[:, None]
    inner = unet.mid_block.forward
    unet.mid_block.forward = lambda *args, **kwargs: (
        seen.append(kwargs["cross_attention_kwargs"]),
        inner(*args, **kwargs),
    )[1]
    cache = apply_hash3d(unet)
    middle = {name: value[[0, 2]] for name, value in inputs.items()}
    predict(unet, cache, {**middle, "cross_attention_kwargs": {"images": [images[[0, 2]], {"one": images[[0, 2]]}]}})
    given = {"images": [images, MappingProxyType({"one": images})]}
    predict(unet, cache, {**inputs, "cross_attention_kwargs": given}, azimuth=[10.0, 100.0])
    first, second = seen[-1]["images"]
    assert first.tolist() == second["one"].tolist() == [[1.0], [3.0]]
    assert hits(cache) == 1


def test_the_prompt_may_be_a_tuple():
    class First(AttnProcessor2_0):
        def __call__(self, attn, hidden_states, encoder_hidden_states=None, **kwargs):
            given = encoder_hidden_states[0] if isinstance(encoder_hidden_states, tuple) else encoder_hidden_states
            return super().__call__(attn, hidden_states, given, **kwargs)

    unet = small_unet()
    unet.set_attn_processor(First())
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    prompt = inputs.pop("encoder_hidden_states")
    for change, expected in ((0.0, 0), (0.0, 1), (1.0, 1)):
        predict(unet, cache, {**inputs, "encoder_hidden_states": (prompt + change,)})
        assert hits(cache) == expected


def test_processors_that_may_mix_views_get_whole_batches():
    class Mixing(AttnProcessor2_0):
        def __call__(self, attn, hidden_states, *args, **kwargs):
            own = super().__call__(attn, hidden_states, *args, **kwargs)
            return own + own.mean(dim=0, keepdim=True)

    unet = small_unet()
    unet.set_attn_processor(Mixing())
    inputs = unet_inputs(unet, views=2)
    with torch.no_grad():
        expected = unet(**inputs).sample
    cache = apply_hash3d(unet)
    for azimuths in ([0, 90], [0, 180], [0, 90]):
        assert torch.equal(predict(unet, cache, inputs, azimuth=azimuths), expected)
    assert (cache.statistics.full, hits(cache)) == (4, 2)


def test_a_cache_without_reuse_in_training_mode_of_a_copy_is_its_own():
    unet = small_unet()
    twin = copy.deepcopy(unet)
    caches = [apply_hash3d(each, Hash3DConfig()) for each in (unet, twin)]
    predict(unet, caches[0], unet_inputs(unet))
    predict(twin, caches[1], unet_inputs(unet))
    assert [cache.statistics.full for cache in caches] == [1, 1]


def test_adapters_of_peft_are_seen():
    """Switched off, scaled, or with a per-block weight, also where peft itself put them in and one sits on conv_in."""
    peft = pytest.importorskip("peft")
    unet, inputs = small_unet(), unet_inputs(small_unet())
    targets = ["conv_in", "to_q", "to_v"]
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, target_modules=targets, init_lora_weights=False), unet)
    cache = apply_hash3d(unet)
    layers = [module for module in unet.modules() if hasattr(module, "lora_A") and hasattr(module, "scaling")]
    for change, expected in (
        (lambda: None, 0),
        (lambda: None, 1),
        (lambda: [layer.enable_adapters(False) for layer in layers], 1),
        (lambda: layers[-1].enable_adapters(True), 1),
        (lambda: layers[-1].set_scale("default", 0.25), 1),
        (lambda: None, 2),
    ):
        change()
        predict(unet, cache, inputs)
        assert hits(cache) == expected


@pytest.mark.parametrize("other", [False, True])
@pytest.mark.parametrize("first", ["applied", "loaded"])
def test_loaded_features_serve_the_weights_they_are_of(first, other):
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    predict(unet, cache, inputs)
    state = cache.state_dict()
    if other:
        write_in_place(unet)
        unet.mid_block.resnets[0].conv1.weight.data[:, 0, 0, 0] += 1.0
    remove_hash3d(unet)
    fresh = Hash3DConfig().build()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if first == "applied":
            apply_hash3d(unet, fresh)
        fresh.load_state_dict(state)
        if first == "loaded":
            apply_hash3d(unet, fresh)
    predict(unet, fresh, inputs)
    assert fresh.statistics.shallow == int(not other)
    assert sum("other weights" in str(each.message) for each in told) == int(other)
