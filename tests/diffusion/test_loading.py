"""Folders with faults: one sentence each, and never a traceback of another library."""

import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

from hash3d.diffusion.loading import choose_weights, load_part
from hash3d.diffusion.zero123 import Zero123Prior
from tests.tiny_models import tiny_zero123

PARTS = ("unet", "vae", "image_encoder", "clip_camera_projection")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("priors") / "whole"
    tiny_zero123().save(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "prior")


def message_of(folder):
    with pytest.raises(ValueError) as caught:  # noqa: PT011  (each test looks at the message)
        Zero123Prior.load(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


@pytest.mark.parametrize("part", PARTS)
def test_a_missing_part(folder, part):
    shutil.rmtree(folder / part)
    assert f"to hold {part}/config.json, but it is missing" in message_of(folder)


@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_weights(folder, part):
    for file in (folder / part).glob("*.safetensors"):
        file.rename(file.with_suffix(".onnx"))
    assert f"to hold safetensors or .bin weights in {part}/, but got none" in message_of(folder)


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ("unet", "layers_per_block"),
        ("vae", "layers_per_block"),
        ("image_encoder", "num_hidden_layers"),
        ("image_encoder", "hidden_size"),
        ("unet", "cross_attention_dim"),
    ],
)
def test_an_absurd_configuration_is_refused_before_it_is_built(folder, part, name):
    """Ten million layers, or channels, would take hours, or all memory."""
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: 10_000_000}))
    assert f"{part} does not load" in message_of(folder)


def test_a_convolution_that_cannot_run_is_refused(folder):
    path = folder / "unet" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "downsample_padding": []}))
    assert "unet does not load: " in message_of(folder)


@pytest.mark.parametrize("part", PARTS)
def test_garbage_for_a_configuration(folder, part):
    (folder / part / "config.json").write_text("{not json")
    assert part in message_of(folder)


@pytest.mark.parametrize("part", PARTS)
def test_damaged_weights(folder, part):
    file = next((folder / part).glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:100])
    assert f"{part} does not load" in message_of(folder)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("unet", {"block_out_channels": [8, 32]}),
        ("vae", {"block_out_channels": [8, 8, 16]}),
        ("image_encoder", {"hidden_size": 32}),
        ("clip_camera_projection", {"output_dim": 16}),
    ],
)
def test_a_part_of_another_shape(folder, part, change):
    path = folder / part / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert part in message_of(folder)


@pytest.mark.parametrize("file", ["feature_extractor/preprocessor_config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("content", ["missing", "{not json", "[]", "\udcff", '{"image_mean": 0.5}'])
def test_faults_of_the_small_files(folder, file, content):
    path = folder / file
    if content == "missing":
        path.unlink()
    else:
        path.write_bytes(content.encode("utf-8", "surrogateescape"))
    assert path.name in message_of(folder)


def test_missing_tensors_are_named(folder):
    file = next((folder / "unet").glob("*.safetensors"))
    tensors = load_file(file)
    del tensors["conv_in.weight"]
    save_file(tensors, file)
    assert f"1 of its {len(tensors) + 1} tensors are missing, for instance conv_in.weight" in message_of(folder)


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_quantized_weights_are_refused(folder, dtype):
    file = next((folder / "unet").glob("*.safetensors"))
    save_file({name: value.to(dtype) for name, value in load_file(file).items()}, file)
    assert str(dtype) in message_of(folder)


def shard(tensors, folder, stem, ending, variant=""):
    """Write two shards with the names that diffusers gives them, and their index."""
    names, index = list(tensors), {}
    for number, chosen in enumerate((names[::2], names[1::2]), start=1):
        file = f"{stem}{variant}-0000{number}-of-00002.{ending}"
        part = {name: tensors[name] for name in chosen}
        save_file(part, folder / file) if ending == "safetensors" else torch.save(part, folder / file)
        index |= dict.fromkeys(chosen, file)
    name = f"{stem}.{ending}.index{variant}.json"
    (folder / name).write_text(json.dumps({"metadata": {}, "weight_map": index}))


LAYOUTS = ("fp16", "fp16_ema", "sharded", "sharded fp16", "bin", "sharded bin", "fp16 bin", "transformers' shards")


def rewrite(part, layout):
    """Save a part's weights anew in one of the layouts that hubs have."""
    file = next(part.glob("*.safetensors"))
    tensors, stem = load_file(file), file.stem
    file.unlink()
    binary = "pytorch_model" if stem == "model" else stem
    if layout in ("fp16", "fp16_ema"):
        save_file(tensors, part / f"{stem}.{layout}.safetensors")
    elif layout == "transformers' shards":
        for number, names in enumerate((list(tensors)[::2], list(tensors)[1::2]), start=1):
            save_file({name: tensors[name] for name in names}, part / f"{stem}-0000{number}-of-00002.fp16.safetensors")
    elif layout.startswith("sharded"):
        ending = "bin" if "bin" in layout else "safetensors"
        shard(tensors, part, binary if "bin" in layout else stem, ending, ".fp16" if "fp16" in layout else "")
    else:
        torch.save(tensors, part / f"{binary}{'.fp16' if 'fp16' in layout else ''}.bin")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gives_the_same_tensors(layout, whole, folder):
    for part in PARTS:
        rewrite(folder / part, layout)
    state = Zero123Prior.load(folder).state_dict()
    expected = Zero123Prior.load(whole).state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(value, expected[name]) for name, value in state.items())


@pytest.mark.parametrize("layout", ["sharded", "sharded bin"])
def test_a_lost_shard_is_told(folder, layout):
    rewrite(folder / "unet", layout)
    next((folder / "unet").glob("*00002-of*")).unlink()
    assert "expected 2 files like diffusion_pytorch_model-00001-of-00002" in message_of(folder)


def test_code_in_a_bin_file_is_not_run(folder, tmp_path):
    class Payload:
        def __reduce__(self):
            return (type(tmp_path).touch, (tmp_path / "run",))

    rewrite(folder / "unet", "bin")
    torch.save({"conv_in.weight": Payload()}, folder / "unet" / "diffusion_pytorch_model.bin")
    assert "diffusion_pytorch_model.bin is damaged or holds more than tensors" in message_of(folder)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [[1, 2], {"conv_in.weight": 3}])
def test_a_bin_file_of_other_things_is_refused(folder, content):
    rewrite(folder / "unet", "bin")
    torch.save(content, folder / "unet" / "diffusion_pytorch_model.bin")
    assert "to hold named tensors alone" in message_of(folder)


def test_safetensors_win_over_bin(folder):
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"never read")
    Zero123Prior.load(folder)


STEM = "diffusion_pytorch_model"


@pytest.mark.parametrize("other", ["model.safetensors", "model-00001-of-00002.safetensors"])
def test_weights_of_two_models_in_one_part_are_refused(folder, other):
    shutil.copy(folder / "unet" / f"{STEM}.safetensors", folder / "unet" / other)
    with pytest.raises(ValueError, match=r"Expected one model in .*unet, but got"):
        Zero123Prior.load(folder)


@pytest.mark.parametrize(
    ("names", "half", "single"),
    [
        (["", ".fp16"], ".fp16", ""),
        (["", ".fp16_ema"], ".fp16_ema", ""),
        (["", ".non_ema"], "", ""),
        ([".fp16", ".non_ema"], ".fp16", ".fp16"),
        ([".fp32", ".fp16"], ".fp16", ".fp16"),
        ([".non_ema"], ".non_ema", ".non_ema"),
    ],
)
def test_one_variant_is_chosen_for_a_precision(names, half, single):
    files = [f"{STEM}{name}.safetensors" for name in names] + [f"{STEM}.bin", "config.json", "optimizer.bin"]
    assert choose_weights(files, torch.float16) == [f"{STEM}{half}.safetensors"]
    assert choose_weights(files, torch.float32) == [f"{STEM}{single}.safetensors"]


def test_old_names_of_an_autoencoders_attention(folder, whole):
    """As in the published Stable Diffusion 1.5: query, key, value and proj_attn."""
    file = next((folder / "vae").glob("*.safetensors"))
    new = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    renamed = {}
    for name, value in load_file(file).items():
        for current, old in new.items():
            name = name.replace(current, old)
        renamed[name] = value
    assert any(".proj_attn." in name for name in renamed)
    save_file(renamed, file)
    state = Zero123Prior.load(folder).vae.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in Zero123Prior.load(whole).vae.state_dict().items())


def test_parts_come_frozen_in_the_asked_dtype(whole):
    unet = load_part(UNet2DConditionModel, whole, "unet", torch.float16)
    assert unet.dtype == torch.float16
    assert not unet.training
    assert not any(parameter.requires_grad for parameter in unet.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("variant", ["fp16", "bf16"])
def test_either_half_precision_takes_either_half_variant(variant, dtype):
    names = ["model.safetensors", f"model.{variant}.safetensors"]
    assert choose_weights(names, dtype) == [names[1]]
    assert choose_weights(names, torch.float32) == [names[0]]
