"""The engine: passes as the U-Net's own, eager or recorded."""

import warnings
from typing import ClassVar

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d, remove_hash3d
from hash3d.fast.cuda_graph import RecordedCall, copied, each_tensor
from hash3d.fast.engine import AutoencoderEngine, UNetEngine, records
from hash3d.unet import accelerate_unet
from hash3d.unet.partial_unet import PartialUNet
from hash3d.unet.watch import SLICES, ModelWatch
from tests.distances import apart
from tests.tiny_ldm import MultiViewUNetModel, UNetModel, tiny_ldm
from tests.tiny_models import tiny_unet, tiny_zero123, unet_inputs


def test_without_a_gpu_an_engine_runs_the_passes_of_the_unet():
    unet = tiny_unet()
    inputs = unet_inputs(unet)
    engine = UNetEngine(unet, -2)
    with torch.no_grad():
        expected = unet(**inputs).sample
        output, feature = engine.full_pass(**inputs)
        assert torch.equal(output.sample, expected)
        assert torch.equal(engine.plain_pass(**inputs).sample, expected)
        assert torch.equal(engine.shallow_pass(feature, **inputs).sample, expected)


def test_an_engine_is_known_and_can_run_where_it_is_asked_for():
    cpu = torch.device("cpu")
    assert not records("auto", cpu)
    assert not records("eager", torch.device("cuda"))
    assert records("auto", torch.device("cuda"))
    with pytest.raises(ValueError, match="auto"):
        records("graph", cpu)


def test_a_batch_of_graphs_is_filled_to_a_power_of_two_by_its_last_view():
    unet = tiny_unet()
    engine = UNetEngine(unet, -2)
    filled = {count: engine.fill(list(range(count)), 6) for count in range(1, 7)}
    assert [len(rows) for rows in filled.values()] == [1, 2, 4, 4, 6, 6]
    assert engine.fill([0, 2, 5], 8) == [0, 2, 5, 5]
    assert PartialUNet(unet, -2).fill([0, 2, 5], 8) == [0, 2, 5]


@pytest.mark.parametrize(("kind", "captured"), [(UNetModel, True), (MultiViewUNetModel, False)])
def test_views_that_attend_to_each_other_run_eagerly(kind, captured):
    unet = tiny_ldm(kind, channel_mult=(1, 1))
    apply_hash3d(unet)
    unet.forward.watch.look()
    unet.forward._choose_passes(torch.device("cuda"))
    assert isinstance(unet.forward.passes, UNetEngine) == captured


@pytest.mark.parametrize("order", ["grouped", "interleaved"])
@pytest.mark.filterwarnings("ignore:The guidance branches of a view have different")
def test_views_of_a_filled_batch_get_what_they_get_alone(monkeypatch, order):
    unet = tiny_unet()
    inputs = unet_inputs(unet, views=3)
    places = {"elevation": 0.0, "azimuth": [0.0, 90.0, 180.0], "radius": 1.0, "scope": "", "branch_order": order}
    results = []
    for fill in (False, True):
        cache = apply_hash3d(unet, Hash3DConfig())
        if fill:
            monkeypatch.setattr(PartialUNet, "fill", UNetEngine.fill)
        for azimuths in (places["azimuth"], [0.0, 270.0, 180.0]):  # All miss; then two hit, and one misses.
            with torch.no_grad(), cache.view(**{**places, "azimuth": azimuths}, timestep=400):
                prediction = unet(**inputs).sample
        results.append(prediction)
        assert (cache.statistics.full, cache.statistics.shallow) == (4, 2)
        remove_hash3d(unet)
    assert torch.allclose(*results, atol=1e-6)  # Sums over a larger batch may round in another order.


def test_an_accelerated_unet_predicts_the_same_refuses_a_cache_and_can_be_left():
    unet = tiny_unet()
    inputs = unet_inputs(unet)
    expected = unet(**inputs).sample
    attributes = set(unet.__dict__)
    accelerate_unet(unet)
    with torch.no_grad():
        assert torch.equal(unet(**inputs).sample, expected)
        assert torch.equal(unet(**inputs, return_dict=False)[0], expected)
    sample = inputs["sample"].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(unet(**{**inputs, "sample": sample}).sample.sum(), sample)
    assert gradient.abs().sum() > 0.0  # Calls with gradients are the U-Net's own.
    with pytest.raises(ValueError, match="remove_hash3d"):
        apply_hash3d(unet)
    remove_hash3d(unet)
    assert set(unet.__dict__) == attributes


class Called(RecordedCall):
    """A call without a graph: the function that would be captured, on buffers of its own as a graph has them."""

    made: ClassVar[list] = []

    def __init__(self, function, inputs, pool=None):
        Called.made.append(inputs["sample"].shape[0])
        self.function, self._inputs = function, copied(inputs)

    def __call__(self, inputs):
        for mine, new in zip(each_tensor(self._inputs), each_tensor(inputs), strict=True):
            mine.copy_(new)
        return self.function(**self._inputs)


@pytest.fixture
def made(monkeypatch):
    """The batch sizes of all calls that were captured."""
    monkeypatch.setattr("hash3d.fast.engine.records", lambda engine, device: True)
    monkeypatch.setattr("hash3d.fast.engine.RecordedCall", Called)
    monkeypatch.setattr("torch.cuda.graph_pool_handle", lambda: "pool")
    monkeypatch.setattr("torch.cuda.is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(Called, "made", [])
    return Called.made


def test_a_form_is_captured_once_though_that_moves_the_weights(made):
    unet = tiny_unet()
    engine = UNetEngine(unet, -2)
    with torch.no_grad():
        for views in (1, 1, 2, 1):
            inputs = unet_inputs(unet, views=views)
            assert apart(engine.plain_pass(**inputs)[0], unet(**inputs).sample) < 1e-6
    assert made == [2, 4]


@pytest.mark.parametrize("looks", range(4))
def test_a_form_is_captured_once_too_where_a_call_looks_at_a_slice_of_the_model(made, looks):
    unet = tiny_unet().requires_grad_(False)
    watch = ModelWatch(unet)
    watch.parameters.insert(0, torch.empty(0, device="meta"))  # As away from the host.
    engine, inputs = UNetEngine(unet, -2, watch=watch), unet_inputs(unet)
    with torch.no_grad():
        for times in (looks, SLICES):
            for _ in range(times):
                watch.look()
            engine.plain_pass(**inputs)
    assert made == [2]


def test_passes_of_graphs_are_those_of_the_unet_and_take_positional_arguments(made):
    unet = tiny_unet()
    engine, eager, inputs = UNetEngine(unet, -2), PartialUNet(unet, -2), unet_inputs(unet)
    args = inputs["sample"], inputs["timestep"], inputs["encoder_hidden_states"]
    with torch.no_grad():
        (expected,), feature = eager.full_pass(*args, return_dict=False)
        prediction, own = engine.full_pass(*args)
        assert apart(prediction[0], expected) < 1e-5
        assert apart(own, feature) < 1e-5
        assert apart(engine.shallow_pass(feature, *args)[0], expected) < 1e-5
    assert len(made) == 2


def test_a_layer_that_was_exchanged_is_captured_anew(made):
    unet = tiny_unet()
    engine, inputs = UNetEngine(unet, -2), unet_inputs(unet)
    with torch.no_grad():
        for _ in range(2):
            engine.plain_pass(**inputs)
        unet.mid_block.resnets[0].conv1 = torch.nn.Conv2d(32, 32, 3, padding=1)
        assert apart(engine.plain_pass(**inputs)[0], unet(**inputs).sample) < 1e-6
    assert len(made) == 2


def test_moments_gradient_and_images_are_the_autoencoders():
    vae = tiny_zero123().vae
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    expected = vae.encode(images).latent_dist.parameters
    moments = AutoencoderEngine(vae).encode(images)
    assert torch.equal(moments, expected)
    dy = torch.randn_like(moments)
    (got,), (wanted,) = (torch.autograd.grad(result, images, dy) for result in (moments, expected))
    assert torch.equal(got, wanted)
    latents = torch.randn(2, 4, 8, 8)
    assert torch.equal(AutoencoderEngine(vae).decode(latents), vae.decode(latents).sample)


def test_what_cannot_be_captured_warns_once_and_runs_eagerly(monkeypatch):
    monkeypatch.setattr("hash3d.fast.engine.records", lambda engine, device: True)

    def record(*_):
        raise RuntimeError("this device has no graphs")

    monkeypatch.setattr("hash3d.fast.engine.RecordedGradient", record)
    vae = tiny_zero123().vae
    autoencoder, images = AutoencoderEngine(vae), torch.rand(2, 3, 32, 32, requires_grad=True)
    with pytest.warns(UserWarning, match="An autoencoder runs eagerly, .*: RuntimeError: this device has no graphs"):
        moments = autoencoder.encode(images)
    assert torch.equal(moments, vae.encode(images).latent_dist.parameters)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(autoencoder.encode(images), moments)


def test_a_shape_is_captured_once_though_capturing_moves_the_weights(monkeypatch):
    made = []
    monkeypatch.setattr("hash3d.fast.engine.records", lambda engine, device: True)
    monkeypatch.setattr("hash3d.fast.engine.RecordedGradient", lambda function, x: made.append(x.shape) or function)
    autoencoder = AutoencoderEngine(tiny_zero123().vae)
    for size in (32, 32, 64, 32):
        autoencoder.encode(torch.rand(2, 3, size, size, requires_grad=True))
    assert made == [(2, 3, 32, 32), (2, 3, 64, 64)]
