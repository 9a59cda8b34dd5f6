"""The engine on a GPU: recorded passes are the eager ones, and follow what the model and the inputs become."""

import pytest
import torch

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.fast.engine import AutoencoderEngine, UNetEngine
from hash3d.unet.partial_unet import PartialUNet
from hash3d.unet.watch import SLICES
from tests.distances import apart
from tests.tiny_ldm import ldm_inputs, tiny_ldm
from tests.tiny_models import UNETS, tiny_stable_diffusion_xl, tiny_unet, tiny_zero123, unet_inputs

RECORDED = 2e-3
"""Relative error of a recorded pass in float32: convolutions may take TF32's 10 bits, and sum in another order."""


pytestmark = pytest.mark.gpu


def on_gpu(inputs):
    return {name: value.cuda() if isinstance(value, torch.Tensor) else value for name, value in inputs.items()}


@pytest.mark.parametrize("name", list(UNETS))
def test_recorded_passes_are_the_eager_ones(name):
    unet = tiny_unet(**UNETS[name]).cuda()
    engine, eager = UNetEngine(unet, -2), PartialUNet(unet, -2)
    with torch.no_grad():
        kept = []
        for views in (1, 2, 1, 1):
            inputs = on_gpu(unet_inputs(unet, views))
            inputs["sample"] = torch.randn_like(inputs["sample"])
            (wanted,), wanted_feature = eager.full_pass(**inputs, return_dict=False)
            (prediction,), feature = engine.full_pass(**inputs)
            assert apart(feature, wanted_feature) < RECORDED
            (shallow,) = engine.shallow_pass(feature.clone(), **inputs)
            kept.append((prediction, shallow, engine.plain_pass(**inputs)[0], wanted))
        for *predictions, wanted in kept:  # Later replays have not overwritten them.
            assert all(apart(prediction, wanted) < RECORDED for prediction in predictions)


def test_recorded_passes_of_a_unet_of_ldm_are_the_eager_ones():
    unet = tiny_ldm().cuda()
    engine, inputs = UNetEngine(unet, -2), on_gpu(ldm_inputs(unet))
    with torch.no_grad():
        for timestep in (400, 900):
            inputs["timesteps"].fill_(timestep)
            (prediction,), feature = engine.full_pass(**inputs)
            assert apart(prediction, unet(**inputs)) < RECORDED
            assert apart(engine.shallow_pass(feature.clone(), **inputs)[0], prediction) < RECORDED
    assert all(engine._recorded.values())


def test_recorded_passes_read_what_stable_diffusion_xl_adds():
    prior = tiny_stable_diffusion_xl().requires_grad_(False).cuda()
    engine = UNetEngine(prior.unet, -2)
    with torch.no_grad():
        for prompt in ("a red mug", "a photo"):
            noisy, embeddings = torch.randn(1, 4, 8, 8, device="cuda"), prior.embed([prompt, ""])[:, None]
            inputs = prior.make_guided_inputs(noisy, torch.tensor([400]), *embeddings)
            (prediction,), feature = engine.full_pass(**inputs)
            assert apart(prediction, prior.unet(**inputs).sample) < RECORDED
            assert apart(engine.shallow_pass(feature.clone(), **inputs)[0], prediction) < RECORDED
    assert all(engine._recorded.values())


def test_a_recorded_pass_follows_its_timestep_given_as_a_number():
    unet = tiny_unet().cuda()
    engine = UNetEngine(unet, -2)
    inputs = on_gpu(unet_inputs(unet))
    with torch.no_grad():
        for timestep in (10, 900):
            given = {**inputs, "timestep": timestep}
            assert apart(engine.plain_pass(**given)[0], unet(**given).sample) < RECORDED


def test_a_form_of_call_is_recorded_once_though_recording_moves_the_weights():
    unet = tiny_unet().requires_grad_(False).cuda()
    engine, inputs = UNetEngine(unet, -2), on_gpu(unet_inputs(unet))
    with torch.no_grad():
        for _ in range(2 * SLICES):
            engine.plain_pass(**inputs)
    assert len(engine._recorded) == 1


def test_nothing_synchronises_from_key_to_prediction():
    unet = tiny_unet().cuda()
    cache = apply_hash3d(unet, Hash3DConfig(), engine="graph")
    inputs = on_gpu(unet_inputs(unet, views=2))
    places = {"elevation": [0.0, 40.0], "azimuth": [0.0, 90.0], "radius": 1.0, "scope": "a cat"}

    def call(timestep):
        with torch.no_grad(), cache.view(**places, timestep=timestep):
            return unet(**inputs).sample

    for timesteps in ([500, 500], [500, 500], [500, 100], [900, 100]):  # Each kind of call is recorded once.
        call(timesteps)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for timesteps in ([300, 300], [300, 300], [300, 700], [800, 700]):
            call(timesteps)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert cache.statistics.shallow >= 6


def test_an_adapter_that_is_switched_on_is_seen():
    peft = pytest.importorskip("peft")
    unet = tiny_unet().cuda()
    unet.add_adapter(peft.LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    unet.cuda()
    engine = UNetEngine(unet, -2)
    inputs = on_gpu(unet_inputs(unet))
    with torch.no_grad():
        for switch in (unet.enable_adapters, unet.disable_adapters, unet.enable_adapters):
            switch()
            assert apart(engine.plain_pass(**inputs)[0], unet(**inputs).sample) < RECORDED


def test_a_captured_encoder_is_the_eager_one():
    vae = tiny_zero123().vae.cuda()
    captured, eager = AutoencoderEngine(vae, "graph"), AutoencoderEngine(vae, "eager")
    for seed in range(2):
        torch.manual_seed(seed)
        images = torch.rand(2, 3, 64, 64, device="cuda", requires_grad=True)
        moments, wanted = captured.encode(images), eager.encode(images)
        dy = torch.randn_like(moments)
        (gradient,), (expected,) = (torch.autograd.grad(result, images, dy) for result in (moments, wanted))
        assert apart(moments, wanted) < RECORDED
        assert apart(gradient, expected) < RECORDED
        with torch.no_grad():
            assert apart(captured.encode(images), wanted) < RECORDED
            latents = torch.randn(2, 4, 8, 8, device="cuda")
            assert apart(captured.decode(latents), eager.decode(latents)) < RECORDED
