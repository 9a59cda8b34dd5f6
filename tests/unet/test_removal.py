"""What was on a U-Net before stays, what comes after stays, and copies are U-Nets of their own."""

import copy
import io

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.unets.unet_2d_condition import UNet2DConditionOutput
from torch.nn.modules.module import register_module_forward_hook

from hash3d import apply_hash3d, remove_hash3d
from tests.tiny_models import VIEW, alike, small_unet, unet_inputs


def predict(unet, inputs):
    with torch.no_grad():
        return unet(**inputs).sample


def wrap(unet, calls, factor=2.0):
    """Patch the forward as others do: count, and scale the input."""
    inner = unet.forward

    def wrapped(sample, *args, **kwargs):
        calls.append(1)
        return inner(factor * sample, *args, **kwargs)

    unet.forward = wrapped
    return wrapped


@pytest.mark.parametrize("in_view", [False, True])
@pytest.mark.parametrize("order", ["before", "after", "both"])
@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
@pytest.mark.filterwarnings("ignore:The guidance branches of a view have different")
def test_a_patch_acts_once_and_stays_after_removal(order, in_view):
    unet, calls = small_unet(), []
    inputs = unet_inputs(unet)
    factor = 4.0 if order == "both" else 2.0
    expected = predict(unet, {**inputs, "sample": factor * inputs["sample"]})
    if order != "after":
        wrap(unet, calls)
    cache = apply_hash3d(unet)
    if order != "before":
        wrap(unet, calls)
    for _ in range(2):
        if in_view:
            with cache.view(**VIEW):
                assert torch.equal(predict(unet, inputs), expected)
        else:
            assert torch.equal(predict(unet, inputs), expected)
    assert cache.statistics.shallow == int(in_view)
    remove_hash3d(unet)
    calls.clear()
    with cache.view(**VIEW):
        assert torch.equal(predict(unet, inputs), expected)
    assert len(calls) == (2 if order == "both" else 1)
    assert cache.statistics.full + cache.statistics.shallow == 2 * in_view, "a removed cache serves nothing"


def test_when_a_later_patch_goes_nothing_of_the_removed_cache_is_left():
    unet = small_unet()
    cache = apply_hash3d(unet)
    ours = unet.forward
    wrap(unet, [])
    remove_hash3d(unet)
    unet.forward = ours  # As whoever patched puts back what was there.
    with cache.view(**VIEW):
        predict(unet, unet_inputs(unet))
    assert "forward" not in unet.__dict__
    assert cache.statistics.lookups == 0


def test_hooks_of_pytorch_and_diffusers_act_once_and_stay():
    from diffusers.hooks import HookRegistry, ModelHook

    class Doubles(ModelHook):
        def pre_forward(self, module, *args, **kwargs):
            return args, {**kwargs, "sample": 2 * kwargs["sample"]}

    unet = small_unet()
    inputs = unet_inputs(unet)
    expected = predict(unet, {**inputs, "sample": 4 * inputs["sample"]})
    unet.register_forward_pre_hook(
        lambda _, args, kwargs: (args, {**kwargs, "sample": 2 * kwargs["sample"]}), with_kwargs=True
    )
    HookRegistry.check_if_exists_or_initialize(unet).register_hook(Doubles(), "another")
    cache = apply_hash3d(unet)
    for _ in range(2):
        with cache.view(**VIEW):
            assert torch.equal(predict(unet, inputs), expected)
    assert cache.statistics.shallow == 1
    remove_hash3d(unet)
    assert list(unet._diffusers_hook.hooks) == ["another"]
    assert torch.equal(predict(unet, inputs), expected)


def hook(layer, collect):
    layer.register_forward_hook(lambda *_: collect())


def hook_globally(layer, collect):
    return register_module_forward_hook(lambda module, *_: collect() if module is layer else None)


def patch(layer, collect):
    inner = layer.forward
    layer.forward = lambda *args, **kwargs: (collect(), inner(*args, **kwargs))[1]


def process(layer, collect):
    class Process(AttnProcessor2_0):
        def __call__(self, *args, **kwargs):
            collect()
            return super().__call__(*args, **kwargs)

    next(module for module in layer.modules() if hasattr(module, "processor")).processor = Process()


@pytest.mark.parametrize(("put", "place"), [
    (hook, "mid_block"), (hook, "mid_block.attentions.0"), (hook, "up_blocks.0"), (hook, "conv_in"),
    (hook_globally, "mid_block"), (patch, "mid_block"), (process, "mid_block"),
])  # fmt: skip
def test_others_code_does_not_run_where_a_reuse_leaves_its_layer_out(put, place, recwarn):
    """Not on what passes through: whoever collects features would take that for the layer's. Told once."""
    unet, seen = small_unet().requires_grad_(False), []
    handle = put(unet.get_submodule(place), lambda: seen.append(1))
    cache, inputs = apply_hash3d(unet), alike(unet)
    for _ in range(3):
        with cache.view(**VIEW):
            predict(unet, inputs)
    assert cache.statistics.shallow == 2
    assert len(seen) == (3 if place == "conv_in" else 1)
    assert sum("leaves out these do not run" in str(each.message) for each in recwarn) == (place != "conv_in")
    if handle is not None:
        handle.remove()


def test_a_patch_that_knows_one_batch_gets_whole_batches():
    """It adds the channels of a whole batch, as inpainting does: a part of the views would not fit."""
    unet = small_unet(in_channels=8)
    extra = torch.randn(4, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    inner = unet.forward
    unet.forward = lambda sample, *args, **kwargs: inner(torch.cat([sample, extra], dim=1), *args, **kwargs)
    inputs = unet_inputs(small_unet(), views=2)
    expected = predict(unet, inputs)
    cache = apply_hash3d(unet)
    for azimuths in ([0, 90], [0, 180], [0, 180]):
        with cache.view(elevation=0, azimuth=azimuths, radius=1, scope="a cat"):
            assert torch.equal(predict(unet, inputs), expected)
    assert (cache.statistics.full, cache.statistics.shallow) == (4, 2)


def deep_copy(unet):
    return copy.deepcopy(unet)


def saved_and_loaded(unet):
    file = io.BytesIO()
    torch.save(unet, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def shallow_copy(unet):
    """With layers of its own, as a replica of `nn.DataParallel`."""
    twin = copy.copy(unet)
    twin._modules = copy.deepcopy(unet._modules)
    return twin


@pytest.mark.parametrize("copied", [deep_copy, saved_and_loaded, shallow_copy])
@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
@pytest.mark.filterwarnings(
    "ignore:The guidance branches of a view have different", "ignore:No call of the cache's U-Net"
)
def test_a_copy_runs_its_own_weights_and_takes_a_cache_of_its_own(copied):
    unet = small_unet()
    cache, inputs = apply_hash3d(unet), unet_inputs(unet)
    with cache.view(**VIEW):
        expected = predict(unet, inputs)
    twin = copied(unet)
    with cache.view(**VIEW):
        assert torch.equal(predict(twin, inputs), expected)
        for parameter in twin.parameters():
            parameter.data.zero_()
        assert predict(twin, inputs).abs().max() == 0
    assert cache.statistics.lookups == 1, "the copy does not ask the original's cache"
    own = apply_hash3d(twin)
    with own.view(**VIEW):
        assert predict(twin, inputs).abs().max() == 0
    assert own.statistics.full == 1
    remove_hash3d(twin)
    assert torch.equal(predict(unet, inputs), expected)


@pytest.mark.filterwarnings("ignore:No call of the cache's U-Net")
def test_a_shallow_copy_takes_a_cache_before_its_first_call():
    unet = small_unet().requires_grad_(False)
    first = apply_hash3d(unet)
    twin = shallow_copy(unet)
    twin.conv_out.weight.zero_()
    twin.conv_out.bias.zero_()
    second = apply_hash3d(twin)
    with first.view(**VIEW), second.view(**VIEW):
        assert predict(twin, alike(twin)).abs().max() == 0
    assert (first.statistics.full, second.statistics.full) == (0, 1)
    remove_hash3d(twin)
    assert "forward" not in twin.__dict__
    assert unet.__dict__["forward"].unet is unet


def test_a_copy_of_a_patched_unet_runs_the_patched_forward():
    unet, calls = small_unet(), []
    wrap(unet, calls)
    apply_hash3d(unet)
    predict(copy.deepcopy(unet), unet_inputs(unet))
    assert calls == [1]


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_weights_and_folders_are_saved_without_the_cache(tmp_path):
    unet = small_unet()
    names, inputs = set(unet.state_dict()), unet_inputs(unet)
    apply_hash3d(unet)
    assert set(unet.state_dict()) == names
    unet.save_pretrained(tmp_path)
    assert torch.equal(predict(type(unet).from_pretrained(tmp_path), inputs), predict(unet, inputs))


def test_a_cache_is_on_one_unet_at_a_time():
    first, second = small_unet(), small_unet()
    cache = apply_hash3d(first)
    with pytest.raises(ValueError, match="on no other U-Net"):
        apply_hash3d(second, cache)
    remove_hash3d(first)
    assert apply_hash3d(second, cache) is cache


def test_it_can_be_taken_off_and_put_on_again():
    unet = small_unet()
    for _ in range(3):
        cache = apply_hash3d(unet)
        with cache.view(**VIEW):
            predict(unet, unet_inputs(unet))
        assert cache.statistics.full == 1
        remove_hash3d(unet)
        remove_hash3d(unet)
    assert "forward" not in unet.__dict__


def test_a_functional_call_runs_the_weights_it_is_given(recwarn):
    """Whose features never meet those of the module's own weights: in turns nothing is reused, and that is told."""
    unet = small_unet().requires_grad_(False)
    inputs, others = unet_inputs(unet), {name: 1.3 * weight for name, weight in unet.named_parameters()}

    @torch.no_grad()
    def predict_both():
        return unet(**inputs).sample, torch.func.functional_call(unet, others, (), inputs).sample

    expected, cache = predict_both(), apply_hash3d(unet)
    for _ in range(5):
        with cache.view(**VIEW):
            assert all(map(torch.equal, predict_both(), expected))
    assert (cache.statistics.full, cache.statistics.shallow) == (10, 0)
    assert sum("started anew in each of the last 8 calls" in str(each.message) for each in recwarn) == 1


def exchange_class(unet, monkeypatch):
    unet.__class__ = type("Patched", (type(unet),), {"forward": twice(type(unet).forward)})


def patch_class(unet, monkeypatch):
    monkeypatch.setattr(type(unet), "forward", twice(type(unet).forward))


def twice(forward):
    def run(self, *args, **kwargs):
        return UNet2DConditionOutput(sample=2.0 * forward(self, *args, **kwargs).sample)

    return run


@pytest.mark.parametrize("change", [exchange_class, patch_class])
@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_a_class_that_is_exchanged_or_patched_later_runs_in_views_and_outside(change, monkeypatch):
    unet = small_unet()
    cache, inputs, expected = apply_hash3d(unet), alike(unet), 2.0 * predict(unet, alike(unet))
    with cache.view(**VIEW):
        predict(unet, inputs)
    change(unet, monkeypatch)
    assert torch.equal(predict(unet, inputs), expected)
    for _ in range(2):
        with cache.view(**VIEW):
            assert torch.equal(predict(unet, inputs), expected)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 1)
