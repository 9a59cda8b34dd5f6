"""Views that attend to each other, and residuals that are added to skip connections."""

import copy

import pytest
import torch
from diffusers import ControlNetModel

from hash3d import Hash3DConfig, apply_hash3d
from hash3d.cache import GuardConfig
from hash3d.unet.partial_unet import PartialUNet
from tests.tiny_ldm import MultiViewUNetModel, ldm_inputs, tiny_ldm
from tests.tiny_models import VIEW, LoRA, alike, tiny_unet

FOUR = [0.0, 90.0, 180.0, 270.0]


def multi_view():
    unet = tiny_ldm(MultiViewUNetModel, channel_mult=(1, 1))
    return unet, {**ldm_inputs(unet, views=4), "num_frames": 4}


@pytest.mark.parametrize("cut", [0, 3, 5])
def test_at_every_cut_the_views_see_each_other_bit_for_bit(cut):
    unet, inputs = multi_view()
    partial, expected = PartialUNet(unet, cut), unet(**inputs)
    prediction, feature = partial.full_pass(**inputs)
    assert torch.equal(prediction, expected)
    assert torch.equal(partial.shallow_pass(feature.clone(), **inputs), expected)


def test_a_set_of_views_is_reused_as_a_whole_and_never_split():
    unet, inputs = multi_view()
    expected, rows = unet(**inputs), []
    cache = apply_hash3d(unet)
    unet.out[0].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    sets = [FOUR, FOUR, [45.0, *FOUR[1:]], [30.0, 120.0, 210.0, 300.0], [45.0, 135.0, 210.0, 300.0], FOUR]
    for azimuths in sets:
        with cache.view(**{**VIEW, "azimuth": azimuths}):
            found = unet(**inputs)
    assert set(rows) == {8}, "all rows, whatever hits"
    assert torch.equal(found, expected)
    hits = [False, True, False, False, False, True]  # The fifth has a cell of the third, and two of the fourth.
    assert (cache.statistics.full, cache.statistics.shallow) == (4 * hits.count(False), 4 * hits.count(True))


def test_views_of_a_set_in_one_cell_do_not_share_features():
    """As ImageDream's reference image beside the view that it is of."""
    unet, inputs = multi_view()
    inputs["x"][[3, 7]] = inputs["x"][0].clone()  # Their latents alone cannot tell them apart.
    expected, cache = unet(**inputs), apply_hash3d(unet)
    for _ in range(2):
        with cache.view(**{**VIEW, "azimuth": [0.0, 90.0, 180.0, 0.0]}, scope="photo.png"):
            found = unet(**inputs)
    assert torch.equal(found, expected)
    assert (cache.statistics.full, cache.statistics.shallow) == (4, 4)


def test_a_spot_check_is_of_the_whole_set():
    unet, inputs = multi_view()
    cache, rows = apply_hash3d(unet, Hash3DConfig(guard=GuardConfig(audit_every=3, max_error=1.0))), []
    unet.out[0].register_forward_pre_hook(lambda _, given: rows.append(len(given[0])))
    for _ in range(4):
        with cache.view(**{**VIEW, "azimuth": FOUR}):
            unet(**inputs)
    assert set(rows) == {8}
    assert cache.guard.error < 1e-5  # Three equal entries are blended.


def test_fewer_views_than_attend_to_each_other_are_refused():
    unet, inputs = multi_view()
    cache = apply_hash3d(unet)
    with pytest.raises(ValueError, match="all 4 views that attend to each other"), cache.view(**VIEW):
        unet(**inputs)


def adapter_residuals(generator):
    """As a T2I-Adapter's: one for each block, of the size before its downsampler."""
    shapes = [(8, 16), (16, 8), (32, 4), (32, 2)]
    tensors = [torch.randn(2, channels, size, size, generator=generator) for channels, size in shapes]
    return {"down_intrablock_additional_residuals": tensors}


def controlnet_residuals(generator):
    """Those of a real ControlNet, whose last layers are zero at first."""
    torch.manual_seed(0)
    control = ControlNetModel.from_unet(tiny_unet(), conditioning_embedding_out_channels=(4, 8, 8, 8)).eval()
    image, inputs = torch.randn(2, 3, 128, 128, generator=generator), alike(tiny_unet())
    down, middle = control(**inputs, controlnet_cond=image, return_dict=False)
    noise = [torch.randn(each.shape, generator=generator) for each in (*down, middle)]
    return {"down_block_additional_residuals": noise[:-1], "mid_block_additional_residual": noise[-1]}


def copied(residuals):
    return {name: list(value) if isinstance(value, list) else value for name, value in residuals.items()}


@pytest.mark.parametrize("make", [adapter_residuals, controlnet_residuals])
@torch.no_grad()
def test_residuals_count_up_to_the_cut_bit_for_bit(make):
    unet = tiny_unet()
    inputs, residuals = alike(unet), make(torch.Generator().manual_seed(0))
    expected = unet(**inputs, **copied(residuals)).sample
    assert not torch.equal(expected, unet(**inputs).sample)
    for cut in range(12):
        partial = PartialUNet(unet, cut)
        output, feature = partial.full_pass(**inputs, **copied(residuals))
        assert torch.equal(output.sample, expected)
        assert torch.equal(partial.shallow_pass(feature.clone(), **inputs, **copied(residuals)).sample, expected), cut


@torch.no_grad()
def test_with_a_scope_residuals_are_reused_and_the_callers_list_is_whole():
    unet = tiny_unet()
    cache, inputs = apply_hash3d(unet), alike(unet)
    for seed in range(3):
        residuals = adapter_residuals(torch.Generator().manual_seed(seed))
        with cache.view(**VIEW, scope=("a cat", "edges.png")):
            unet(**inputs, **residuals)
        assert len(residuals["down_intrablock_additional_residuals"]) == 4
    assert (cache.statistics.full, cache.statistics.shallow) == (1, 2)


@pytest.mark.parametrize("name", ["control", "features_adapter"])
def test_ldms_residuals_count_up_to_the_cut(name):
    unet = tiny_ldm()
    inputs, generator = ldm_inputs(unet), torch.Generator().manual_seed(0)
    shapes, h = [], inputs["x"]
    for block in unet.input_blocks:
        h = block(h, torch.zeros(2, 128), inputs["context"])
        shapes.append(h.shape)
    chosen = [*shapes, h.shape] if name == "control" else shapes[2::3]
    residuals = [torch.randn(shape, generator=generator) for shape in chosen]
    expected = unet(**inputs, **{name: list(residuals)})
    assert not torch.equal(expected, unet(**inputs))
    for cut in range(len(shapes)):
        partial = PartialUNet(unet, cut)
        _, feature = partial.full_pass(**inputs, **{name: list(residuals)})
        assert torch.equal(partial.shallow_pass(feature, **inputs, **{name: list(residuals)}), expected), cut


def add_lora(unet):
    attention = unet.down_blocks[0].attentions[0].transformer_blocks[0].attn1
    attention.to_q = LoRA(attention.to_q)
    return attention.to_q


@torch.no_grad()
def test_a_step_of_the_trained_branch_makes_its_own_features_stale_alone():
    """As in ProlificDreamer: a frozen U-Net, and one of the same weights with a LoRA, each with a cache."""
    frozen = tiny_unet().requires_grad_(False)
    trained = copy.deepcopy(frozen, {id(weight): weight for weight in frozen.parameters()})
    lora, inputs = add_lora(trained), alike(frozen)
    caches = [apply_hash3d(each) for each in (frozen, trained)]
    for _ in range(3):
        for unet, cache in zip((frozen, trained), caches, strict=True):
            for _ in range(2):
                with cache.view(**VIEW):
                    unet(**inputs)
        lora.step()
    assert trained.conv_in.weight is frozen.conv_in.weight
    found = [(cache.statistics.full, cache.statistics.shallow) for cache in caches]
    assert found == [(1, 5), (3, 3)]


@torch.no_grad()
def test_in_one_unet_a_step_makes_the_features_of_both_branches_stale():
    unet = tiny_unet().requires_grad_(False)
    lora, inputs, cache = add_lora(unet), alike(unet), apply_hash3d(unet)
    for _ in range(3):
        for lora.scale in (0.0, 1.0, 0.0, 1.0):
            with cache.view(**VIEW):
                unet(**inputs)
        lora.step()
    assert (cache.statistics.full, cache.statistics.shallow) == (6, 6)
