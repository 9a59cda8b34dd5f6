"""The hook on an unmodified U-Net."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from hash3d import apply_hash3d, remove_hash3d
from hash3d.cache import DeepCacheConfig, GridConfig, GuardConfig, Hash3DConfig
from tests.tiny_models import UNETS, small_unet, tiny_unet, unet_inputs

ALWAYS = Hash3DConfig(reuse_probability=1.0)


def predict(unet, inputs):
    with torch.no_grad():
        return unet(**inputs).sample


def count_calls(module):
    calls = []
    module.register_forward_hook(lambda *_: calls.append(1))
    return calls


def test_removal_leaves_the_unet_as_it_was():
    unet = small_unet()
    inputs = unet_inputs(unet)
    expected = predict(unet, inputs)
    state = {name: value.clone() for name, value in unet.state_dict().items()}
    attributes = {name: set(module.__dict__) for name, module in unet.named_modules()}
    cache = apply_hash3d(unet, ALWAYS)
    for _ in range(2):
        with cache.view(elevation=0, azimuth=0, radius=1, timestep=400):
            predict(unet, inputs)
    remove_hash3d(unet)
    assert {name: set(module.__dict__) for name, module in unet.named_modules()} == attributes
    assert all(torch.equal(value, state[name]) for name, value in unet.state_dict().items())
    assert torch.equal(predict(unet, inputs), expected)
    remove_hash3d(unet)


def test_a_second_cache_is_refused():
    unet = small_unet()
    apply_hash3d(unet)
    with pytest.raises(ValueError, match="remove_hash3d"):
        apply_hash3d(unet)


@pytest.mark.parametrize("name", list(UNETS))
def test_a_hit_with_the_same_input_is_the_full_pass(name):
    unet = tiny_unet(**UNETS[name])
    inputs = unet_inputs(unet)
    expected = predict(unet, inputs)
    deep = count_calls(unet.mid_block.resnets[0])
    cache = apply_hash3d(unet, ALWAYS)
    for expected_passes in (1, 1):
        with cache.view(elevation=10, azimuth=20, radius=1.5):
            assert torch.equal(predict(unet, inputs), expected)
        assert len(deep) == expected_passes
    assert (cache.statistics.full, cache.statistics.shallow) == (1, 1)


def test_views_of_one_batch_are_split_and_put_back_in_order():
    unet = small_unet()
    inputs = unet_inputs(unet, views=3)
    expected = predict(unet, inputs)
    cache = apply_hash3d(unet, ALWAYS)
    batches = []
    unet.mid_block.resnets[0].register_forward_pre_hook(lambda _, arguments: batches.append(arguments[0].shape[0]))
    middle = {name: value[[1, 4]] for name, value in inputs.items()}
    with cache.view(elevation=0, azimuth=100, radius=1):
        predict(unet, middle)
    batches.clear()
    with cache.view(elevation=0, azimuth=[0, 100, 200], radius=1):
        prediction = predict(unet, inputs)
    assert batches == [4], "the two views that missed run in full, both branches, and the one that hit does not"
    # Another batch size may choose another kernel: agreement to float32 rounding, not bit for bit.
    torch.testing.assert_close(prediction, expected, rtol=1e-4, atol=1e-5)
    assert (cache.statistics.full, cache.statistics.shallow) == (3, 1)


def test_neighbours_share_a_feature_and_strangers_do_not():
    unet = small_unet()
    cache = apply_hash3d(unet, Hash3DConfig(grid=GridConfig(azimuth=20.0)))
    for azimuth in (5, 15, 25, 360 + 8):
        with cache.view(elevation=0, azimuth=azimuth, radius=1):
            predict(unet, unet_inputs(unet))
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 2)
    assert cache.statistics.summary()["mean_gap"]["azimuth"] == pytest.approx((10 + 3) / 2)


@pytest.mark.filterwarnings("ignore:A U-Net call ran in full")
def test_noise_mode_runs_no_unet_on_a_hit():
    unet = small_unet()
    cache = apply_hash3d(unet, Hash3DConfig(reuse_probability=1.0, mode="noise"))
    calls, inputs = count_calls(unet.conv_in), unet_inputs(unet)
    expected = predict(unet, inputs)
    calls.clear()
    for _ in range(3):
        with cache.view(elevation=0, azimuth=0, radius=1):
            assert torch.equal(predict(unet, inputs), expected)
    assert len(calls) == 1


def test_deepcache_runs_every_nth_call_in_full_whatever_the_view():
    unet = small_unet()
    cache = apply_hash3d(unet, DeepCacheConfig(interval=3))
    deep = count_calls(unet.mid_block.resnets[0])
    pattern = []
    for call in range(7):
        with cache.view(elevation=0, azimuth=50 * call, radius=1, scope="a cat"):
            predict(unet, unet_inputs(unet, seed=call))
        pattern.append(len(deep))
    assert pattern == [1, 1, 1, 2, 2, 2, 3]


@pytest.mark.parametrize("change", ["dtype", "size", "scope", "branches"])
def test_what_a_feature_depends_on_resets_the_cache(change):
    unet = small_unet()
    cache = apply_hash3d(unet, ALWAYS)
    inputs = unet_inputs(unet)
    with cache.view(elevation=0, azimuth=0, radius=1, scope="a cat"):
        predict(unet, inputs)
    scope = "a cat"
    if change == "dtype":
        unet.double()
        inputs = {name: value.double() if value.is_floating_point() else value for name, value in inputs.items()}
    elif change == "size":
        inputs["sample"] = inputs["sample"][:, :, :8, :8]
    elif change == "branches":
        inputs = {name: value[:1] for name, value in inputs.items()}
    else:
        scope = "a dog"
    with cache.view(elevation=0, azimuth=0, radius=1, scope=scope):
        predict(unet, inputs)
    assert (cache.statistics.full, cache.statistics.shallow) == (2, 0)


@pytest.mark.filterwarnings("ignore:The guidance branches of a view have different")
def test_positional_call_and_tuple_output():
    unet = small_unet()
    inputs = unet_inputs(unet)
    expected = predict(unet, inputs)
    cache = apply_hash3d(unet, ALWAYS)
    with torch.no_grad(), cache.view(elevation=0, azimuth=0, radius=1):
        output = unet(inputs["sample"], 400, inputs["encoder_hidden_states"], return_dict=False)
    assert isinstance(output, tuple)
    assert torch.equal(output[0], expected)


def test_batch_that_does_not_fit_the_views_is_refused():
    unet = small_unet()
    cache = apply_hash3d(unet, ALWAYS)
    with cache.view(elevation=0, azimuth=[0, 1, 2], radius=1), pytest.raises(ValueError, match="multiple of the 3"):
        predict(unet, unet_inputs(unet))


def test_stored_features_are_copies():
    unet = small_unet()
    cache = apply_hash3d(unet, Hash3DConfig(reuse_probability=1.0, grid=GridConfig(azimuth=360)))
    inputs = unet_inputs(unet)
    with cache.view(elevation=0, azimuth=0, radius=1):
        predict(unet, inputs)
    (entry,) = cache.store.entries()
    assert entry.num_bytes == cache.store.num_bytes == entry.latents.nbytes + entry.feature.nbytes
    assert entry.latents.untyped_storage().data_ptr() != inputs["sample"].untyped_storage().data_ptr()
    blocks = {part.untyped_storage().nbytes() for part in (entry.latents, entry.feature)}
    assert sum(blocks) == cache.store.num_bytes


def test_a_checked_view_gets_the_full_prediction_and_its_error_is_kept():
    """Three views: one misses, one hits, one hits and is checked."""
    unet = small_unet()
    first, second = (unet_inputs(unet, views=3, branches=1, seed=seed) for seed in (0, 1))
    expected = predict(unet, second)
    guard = GuardConfig(audit_every=4)
    cache = apply_hash3d(unet, Hash3DConfig(guard=guard))
    with cache.view(elevation=0, azimuth=[0, 90, 180], radius=1, timestep=400, scope="a cat"):
        predict(unet, first)
    with cache.view(elevation=0, azimuth=[0, 90, 270], radius=1, timestep=400, scope="a cat"):  # Hits 1 and 2.
        predict(unet, first)
    with cache.view(elevation=0, azimuth=[45, 0, 90], radius=1, timestep=400, scope="a cat"):  # A miss, hits 3 and 4.
        mixed = predict(unet, second)
    shallow = predict_shallow_alone(unet, cache, second, row=1)
    assert torch.allclose(mixed[[0, 2]], expected[[0, 2]], atol=1e-6)
    assert not torch.allclose(mixed[1], expected[1], atol=1e-3)
    assert torch.allclose(mixed[1], shallow, atol=1e-6)
    summary = cache.summary()["guard"]
    assert summary["audits"] == 1
    assert summary["mean_error"] > 1e-3
    assert (cache.statistics.full, cache.statistics.shallow) == (3 + 1 + 2, 2 + 1 + 1)


def predict_shallow_alone(unet, cache, inputs, row):
    """What a batch of one view gets from what its cell holds now."""
    one = {
        name: value[row : row + 1] if torch.is_tensor(value) and value.ndim else value for name, value in inputs.items()
    }
    with cache.view(elevation=0, azimuth=0, radius=1, timestep=400, scope="a cat"):
        return predict(unet, one)[0]


@pytest.mark.filterwarnings("ignore:The guidance branches of a view have different")
def test_with_gradients_on_but_nothing_to_differentiate_no_graph_is_kept():
    unet = small_unet().requires_grad_(False)
    cache = apply_hash3d(unet, Hash3DConfig(guard=GuardConfig(audit_every=1)))
    for seed in range(4):
        with cache.view(elevation=0, azimuth=0, radius=1, scope="a cat"):
            unet(**unet_inputs(unet, seed=seed))
    assert cache.summary()["guard"]["audits"] == 3
    assert not any(entry.feature.requires_grad for entry in cache.store.entries())


def test_rows_of_interleaved_branches_are_those_of_grouped_ones():
    """Two views: one misses, one hits. The same numbers in another order give the same numbers in that order."""
    unet = small_unet()
    first, second = (unet_inputs(unet, views=2, seed=seed) for seed in (0, 1))
    results = {}
    for order in ("grouped", "interleaved"):
        rows = [0, 1, 2, 3] if order == "grouped" else [0, 2, 1, 3]
        cache = apply_hash3d(unet, ALWAYS)
        for azimuths, inputs in (([0, 90], first), ([180, 0], second)):
            given = {name: value[rows] for name, value in inputs.items()}
            with cache.view(elevation=0, azimuth=azimuths, radius=1, scope="a cat", branch_order=order):
                prediction = predict(unet, given)
        results[order] = torch.empty_like(prediction)
        results[order][rows] = prediction
        assert (cache.statistics.full, cache.statistics.shallow) == (3, 1)
        remove_hash3d(unet)
    assert torch.equal(results["grouped"], results["interleaved"])


@pytest.mark.parametrize("order", ["grouped", "interleaved"])
def test_rows_in_the_other_order_of_branches_are_refused(order):
    unet = small_unet()
    inputs = unet_inputs(unet, views=2)
    views = inputs["sample"][:2]
    inputs["sample"] = torch.cat([views] * 2) if order == "interleaved" else views.repeat_interleave(2, dim=0)
    cache = apply_hash3d(unet, ALWAYS)
    wanted = "interleaved" if order == "grouped" else "grouped"
    message = f"Pass branch_order='{wanted}' to cache.view"
    view = cache.view(elevation=0, azimuth=[0, 90], radius=1, branch_order=order)
    with view, pytest.raises(ValueError, match=message):
        predict(unet, inputs)


def test_a_feature_that_is_not_finite_is_not_kept_and_spoils_no_mean():
    unet = small_unet()
    bad, good = unet_inputs(unet), unet_inputs(unet)
    bad["sample"] = bad["sample"] * float("nan")
    cache = apply_hash3d(unet, Hash3DConfig(guard=GuardConfig(audit_every=2)))

    def call(inputs):
        with cache.view(elevation=0, azimuth=0, radius=1):
            return predict(unet, inputs)

    with pytest.warns(UserWarning, match="NaN or infinity"):
        call(bad)
    assert cache.store.entries() == []
    expected = call(good)
    call(good)
    call(bad)  # Checked: its error is no number.
    assert cache.guard.error is None
    assert torch.isfinite(call(good)).all()
    assert torch.allclose(call(good), expected)
    assert cache.statistics.not_finite == 2
    assert cache.guard.error < 1e-6


def test_threads_have_views_of_their_own():
    """A thread inside a view, another outside: the second is told, and neither gets the other's features."""
    unet = small_unet()
    cache, inputs = apply_hash3d(unet, ALWAYS), unet_inputs(unet)
    with ThreadPoolExecutor(4) as pool:

        def call(azimuth):
            given = unet_inputs(unet, seed=azimuth)
            for _ in range(3):
                with cache.view(elevation=0, azimuth=azimuth, radius=1):
                    result = predict(unet, given)
            return result

        results = list(pool.map(call, range(0, 360, 40)))
        with cache.view(elevation=0, azimuth=0, radius=1), pytest.warns(UserWarning, match="no view was open"):
            pool.submit(predict, unet, inputs).result()
    assert cache.statistics.bypassed == {"no view was open": 1}
    assert (cache.statistics.full, cache.statistics.shallow) == (9, 18)
    remove_hash3d(unet)
    assert all(torch.equal(result, predict(unet, unet_inputs(unet, seed=40 * n))) for n, result in enumerate(results))
