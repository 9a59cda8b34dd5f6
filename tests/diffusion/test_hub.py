"""Where a prior's folder is found: on the disk, in the package, on the hub."""

from fnmatch import fnmatch

import pytest
import torch

from hash3d.diffusion.loading import resolve_folder
from hash3d.diffusion.stable_diffusion import StableDiffusionPrior
from hash3d.model_files import embedded_folder


def test_an_existing_folder_wins(prior_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve_folder(str(prior_folder), ()) == prior_folder
    assert resolve_folder("mini-zero123", ()) == embedded_folder("mini-zero123")
    (tmp_path / "mini-zero123").mkdir()
    assert resolve_folder("mini-zero123", ()).resolve() == tmp_path / "mini-zero123"


@pytest.mark.parametrize("name", ["nowhere", "./a/b", "/no/such", "~/none/such", "a/b/c"])
def test_a_name_that_is_nothing(name):
    with pytest.raises(FileNotFoundError, match="existing folder, one of mini-zero123, mini-sd, or a hub name"):
        resolve_folder(name, ())


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileNotFoundError, match=r"a diffusers folder, a \.safetensors or a \.ckpt"):
        resolve_folder(str(tmp_path / "file"), ())


HUB = [
    "model_index.json", "README.md", "safety_checker/config.json", "safety_checker/model.safetensors",
    "unet/config.json", "unet/diffusion_pytorch_model.safetensors", "unet/diffusion_pytorch_model.fp16.safetensors",
    "unet/diffusion_pytorch_model.bin", "unet/diffusion_pytorch_model.non_ema.safetensors",
    "vae/config.json", "vae/diffusion_pytorch_model.bin", "vae/diffusion_pytorch_model.fp16.bin",
    "tokenizer/vocab.json", "tokenizer/merges.txt", "scheduler/scheduler_config.json",
    "text_encoder/config.json", "text_encoder/model.fp16-00001-of-00002.safetensors",
    "text_encoder/model.fp16-00002-of-00002.safetensors", "text_encoder/model.safetensors.index.fp16.json",
    "image_encoder/model.safetensors", "v1-5-pruned.ckpt", "v1-5-pruned.safetensors",
]  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_the_hub_is_asked_for_one_variant_of_the_parts_alone(dtype, tmp_path, monkeypatch):
    asked = {}

    def snapshot_download(name, *, allow_patterns):
        asked[name] = {file for file in HUB if any(fnmatch(file, pattern) for pattern in allow_patterns)}
        return str(tmp_path)

    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda name: HUB)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert resolve_folder("owner/model", StableDiffusionPrior.parts, dtype) == tmp_path
    half = ".fp16" if dtype == torch.float16 else ""
    weights = {file for file in asked["owner/model"] if file.endswith((".safetensors", ".bin", ".ckpt"))}
    assert weights == {
        f"unet/diffusion_pytorch_model{half}.safetensors", f"vae/diffusion_pytorch_model{half}.bin",
        "text_encoder/model.fp16-00001-of-00002.safetensors", "text_encoder/model.fp16-00002-of-00002.safetensors",
    }  # fmt: skip
    rest = {file for file in HUB if file.endswith((".json", ".txt")) and not file.startswith("safety")}
    assert asked["owner/model"] - weights == rest


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """An empty hub cache and no network. HF_HUB_OFFLINE=1 is read at import, so that its constant is set here."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_a_snapshot_in_the_cache_is_taken_offline(offline):
    snapshot = offline / "models--owner--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (offline / "models--owner--model" / "refs").mkdir()
    (offline / "models--owner--model" / "refs" / "main").write_text("0" * 40)
    assert resolve_folder("owner/model", ()) == snapshot


def test_a_hub_name_offline(offline):
    with pytest.raises(FileNotFoundError, match=r"Could not fetch the prior 'owner/model' from the hub .* --prior"):
        resolve_folder("owner/model", ())
