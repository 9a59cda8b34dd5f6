"""LPIPS, CLIP and FLIP, against the packages that define them, on random weights of the real layout."""

import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from hash3d.diffusion.stable_diffusion import load_tokenizer
from hash3d.evaluation.perceptual import BACKBONES, CLIPS, Clip, Lpips, load_lpips, load_measures
from hash3d.model_files import embedded_folder

WIDTHS = {
    "vgg": [(3, 64, 3), (64, 64, 3), (64, 128, 3), (128, 128, 3), (128, 256, 3), (256, 256, 3), (256, 256, 3),
            (256, 512, 3), *[(512, 512, 3)] * 5],
    "alex": [(3, 64, 11), (64, 192, 5), (192, 384, 3), (384, 256, 3), (256, 256, 3)],
}  # fmt: skip
"""Channels in and out and kernels of torchvision's vgg16 and alexnet."""
HEADS = {"vgg": (64, 128, 256, 512, 512), "alex": (64, 192, 384, 256, 256)}
OFFICIAL = {
    "vgg": (0.1704268, 0.1889127),
    "alex": (0.1589996, 0.1782613),
}
"""lpips 0.1.4 (LPIPS(net=..., eval_mode=True), in [-1, 1]) with `random_weights` of `pair(seed)`, seeds 0 and 1."""


def random_weights(net):
    generator, weights = torch.Generator().manual_seed(0), {}
    for index, (inside, outside, kernel) in zip(BACKBONES[net].convolutions, WIDTHS[net], strict=True):
        weight = torch.randn(outside, inside, kernel, kernel, generator=generator)
        weights[f"features.{index}.weight"] = weight * (2.0 / (inside * kernel**2)) ** 0.5
        weights[f"features.{index}.bias"] = 0.1 * torch.randn(outside, generator=generator)
    for layer, width in enumerate(HEADS[net]):
        weights[f"lin{layer}.model.1.weight"] = torch.rand(1, width, 1, 1, generator=generator)
    return weights


def pair(seed, size=48):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 5, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, (size, size + 8), mode="bilinear")[0].permute(1, 2, 0)
    return (smooth + 0.3 * (torch.rand(smooth.shape, generator=generator) - 0.5)).clamp(0, 1), smooth


@pytest.mark.parametrize("net", ["vgg", "alex"])
def test_lpips_is_that_of_its_package(net):
    lpips = Lpips(net, random_weights(net))
    assert [lpips(*pair(seed)) for seed in range(2)] == pytest.approx(OFFICIAL[net], rel=1e-5)
    image, truth = pair(0)
    assert lpips(image, image) == 0.0
    assert lpips(image, truth) == pytest.approx(lpips(truth, image))


def test_lpips_weights_come_from_a_folder(tmp_path):
    weights = random_weights("alex")
    heads = {name: value for name, value in weights.items() if name.startswith("lin")}
    # The whole network's file has a classifier too.
    others = {name: value for name, value in weights.items() if name not in heads} | {
        "classifier.1.bias": torch.ones(2)
    }
    torch.save(others, tmp_path / BACKBONES["alex"].file)
    torch.save(heads, tmp_path / "alex.pth")
    assert load_lpips("alex", tmp_path).keys() == {*weights, "classifier.1.bias"}
    found = load_measures(["lpips_alex"], None, weights=tmp_path)["lpips_alex"]
    assert found(*pair(1)) == pytest.approx(OFFICIAL["alex"][1], rel=1e-5)


@pytest.fixture(scope="module")
def clip():
    """A narrow CLIP of the real class, with the text encoder's real beginning and end."""
    tokenizer = load_tokenizer(embedded_folder("mini-sd"))
    text = {
        "vocab_size": len(tokenizer),
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": tokenizer.bos_token_id,
    }
    narrow = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = CLIPConfig(text_config={**narrow, **text}, vision_config={**narrow, "patch_size": 32}, projection_dim=24)
    torch.manual_seed(0)
    return CLIPModel(config).eval(), tokenizer


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (224, 224), (300, 300)])
def test_clip_is_that_of_transformers(clip, size):
    """The model's logits over its scale are cosines."""
    model, tokenizer = clip
    image = torch.rand(*size, 3, generator=torch.Generator().manual_seed(0))
    picture = Image.fromarray((image.numpy() * 255).round().astype(np.uint8))
    pixels = torch.from_numpy(np.stack(CLIPImageProcessor()(picture)["pixel_values"]))
    words = tokenizer(["a red mug"], return_tensors="pt")
    expected = model(**words, pixel_values=pixels).logits_per_image / model.logit_scale.exp()
    assert Clip(model, tokenizer, "a red mug")(image, image) == pytest.approx(expected.item(), abs=1e-5)
    assert Clip(model, tokenizer, image)(image, image) == pytest.approx(1.0)
    assert Clip(model, tokenizer, image)(1.0 - image, image) < 1.0 - 1e-4


def test_clip_comes_from_a_folder(clip, tmp_path):
    model, tokenizer = clip
    model.save_pretrained(tmp_path / "clip-vit-base-patch32")
    tokenizer.save_pretrained(tmp_path / "clip-vit-base-patch32")
    found = load_measures(["clip_b32"], "a red mug", weights=tmp_path)["clip_b32"]
    image = torch.rand(32, 32, 3)
    assert found(image, image) == pytest.approx(Clip(model, tokenizer, "a red mug")(image, image), abs=1e-6)
    with pytest.raises(ValueError, match="an input image or a prompt for clip_b32"):
        load_measures(["clip_b32"], None, weights=tmp_path)


@pytest.mark.parametrize("name", ["lpips_vgg", "clip_g14"])
def test_missing_weights_are_one_line(name, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network\nat all")

    monkeypatch.setattr("torch.hub.load_state_dict_from_url", refuse)
    monkeypatch.setattr("huggingface_hub.list_repo_files", refuse)
    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    with pytest.raises(
        ValueError, match=r"Expected the weights .* cannot be read \(no network\)\. Pass --weights"
    ) as told:
        load_measures([name], "a mug", weights=tmp_path)
    assert "\n" not in str(told.value)
    assert {each.rpartition("/")[2] for each in CLIPS.values()} >= {"CLIP-ViT-bigG-14-laion2B-39B-b160k"}


def test_flip_gets_the_true_image_first(monkeypatch):
    """flip_evaluator.evaluate(reference, test, "LDR") returns the map, its mean and the parameters."""
    given = types.ModuleType("flip_evaluator")
    given.__spec__ = types.SimpleNamespace()
    given.evaluate = lambda reference, test, kind: (None, float(reference.mean() - test.mean()), {"kind": kind})
    monkeypatch.setitem(sys.modules, "flip_evaluator", given)
    found = load_measures(["flip"], None)["flip"]
    assert found(torch.zeros(4, 4, 3), torch.full((4, 4, 3), 2.0)) == 1.0


def test_flip_without_its_package_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "flip_evaluator", None)
    with pytest.raises(ImportError, match=r'flip-evaluator .* pip install "hash3d\[metrics\]"'):
        load_measures(["flip"], None)
