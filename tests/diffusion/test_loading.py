"""Folders with faults: one sentence each, and never a traceback of another library."""

import json
import shutil

import pytest
import torch
from diffusers import UNet2DConditionModel

from hash3d.diffusion.loading import embedded_folder, load_part, resolve_folder
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
def test_a_part_without_safetensors(folder, part):
    for file in (folder / part).glob("*.safetensors"):
        file.rename(file.with_suffix(".bin"))
    assert f"to hold safetensors in {part}/, but there are none" in message_of(folder)


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
    if content.startswith('{"image') and "scheduler" in file:
        assert Zero123Prior.load(folder).schedule.num_timesteps == 1000
    else:
        assert path.name in message_of(folder)


def test_missing_tensors_are_named(folder):
    from safetensors.torch import load_file, save_file

    file = next((folder / "unet").glob("*.safetensors"))
    tensors = load_file(file)
    del tensors["conv_in.weight"]
    save_file(tensors, file)
    message = message_of(folder)
    assert "unet" in message
    assert "conv_in.weight" in message


def test_fp16_file_names(whole, folder):
    for part in PARTS:
        for file in (folder / part).glob("*.safetensors"):
            file.rename(file.with_suffix(".fp16.safetensors"))
    state = Zero123Prior.load(folder).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in Zero123Prior.load(whole).state_dict().items())


def test_parts_come_frozen_in_the_asked_dtype(whole):
    unet = load_part(UNet2DConditionModel, whole, "unet", torch.float16)
    assert unet.dtype == torch.float16
    assert not unet.training
    assert not any(parameter.requires_grad for parameter in unet.parameters())


def test_an_existing_folder_wins(whole, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_folder(str(whole)) == whole
    assert resolve_folder("mini-zero123") == embedded_folder("mini-zero123")
    (tmp_path / "mini-zero123").mkdir()
    assert resolve_folder("mini-zero123").resolve() == tmp_path / "mini-zero123"


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "/no/such", "~/none/such", "a/b/c"])
def test_a_name_that_is_nothing(name):
    with pytest.raises(FileNotFoundError, match="existing folder, one of mini-zero123, mini-sd, or a hub name"):
        resolve_folder(name)


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match="but it is a file"):
        resolve_folder(str(tmp_path / "file"))


def test_a_hub_name_offline(tmp_path, monkeypatch):
    """HF_HUB_OFFLINE=1 is read when the hub's package is imported, so that its constant is set here."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"Could not fetch the prior 'owner/model' from the hub .* --prior"):
        resolve_folder("owner/model")
