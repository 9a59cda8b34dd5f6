"""Metrics that ask a network, or a package of the extra `metrics`: LPIPS, similarity by CLIP, FLIP.

Weights are files with their published names: those of a folder, or what torch.hub and the Hugging Face hub hold.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image, ImageOps
from torch import Tensor

from hash3d.diffusion.loading import choose_weights, load_part
from hash3d.export.turntable import to_bytes
from hash3d.kernels import import_extra

Measure = Callable[[Float[Tensor, "H W 3"], Float[Tensor, "H W 3"]], float]
"""Of an image and the true one, in [0, 1] on the same background."""


class Backbone(NamedTuple):
    """A network of torchvision; a pool of stride 2 lies where two convolutions are three of its `features` apart."""

    file: str
    """torchvision's weights."""
    convolutions: tuple[int, ...]
    """Indices among its `features`. All but the first have stride 1, and keep the size."""
    taps: tuple[int, ...]
    """Convolutions whose outputs, after the ReLU, are compared."""
    window: int
    """Of the pools."""
    first: tuple[int, int]
    """Stride and padding of the first convolution."""


VGG = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
BACKBONES = {
    "vgg": Backbone("vgg16-397923af.pth", VGG, taps=(2, 7, 14, 21, 28), window=2, first=(1, 1)),
    "alex": Backbone("alexnet-owt-7be5be79.pth", (0, 3, 6, 8, 10), taps=(0, 3, 6, 8, 10), window=3, first=(4, 2)),
}
"""VGG-16 and AlexNet, up to the last output that LPIPS takes."""
TORCHVISION = "https://download.pytorch.org/models/"
HEADS = "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1/"
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
"""Of colours in [-1, 1], in lpips 0.1.4 (ScalingLayer)."""
CLIPS = {
    "clip_b32": "openai/clip-vit-base-patch32",
    "clip_l14": "openai/clip-vit-large-patch14",
    "clip_g14": "laion/CLIP-ViT-bigG-14-laion2B-39B-b160k",
}
"""The paper's three, by their hub names; in a folder of weights each is a folder of the last part of its name."""
CLIP_SIZE = 224
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
NAMES = ("flip", *(f"lpips_{net}" for net in BACKBONES), *CLIPS)


class Lpips:
    """Learned perceptual image patch similarity, version 0.1 (Zhang et al. 2018), as lpips 0.1.4 computes it.

    Args:
        net: vgg or alex.
        weights: `features.N.weight` and `.bias` of the backbone, and `linN.model.1.weight` of the linear heads.
    """

    def __init__(self, net: str, weights: Mapping[str, Tensor]) -> None:
        self.backbone, self.weights = BACKBONES[net], weights

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
        """Distance of two images: 0 for equal ones."""
        pair = torch.stack([image, truth]).permute(0, 3, 1, 2).to(next(iter(self.weights.values())))
        shift, scale = (pair.new_tensor(each).view(3, 1, 1) for each in (SHIFT, SCALE))
        layers = self._features((2.0 * pair - 1.0 - shift) / scale)
        differences = ((one - other).square() for one, other in layers)
        heads = (self.weights[f"lin{layer}.model.1.weight"][0] for layer in range(len(self.backbone.taps)))
        return float(sum((head * each).sum(dim=0).mean() for head, each in zip(heads, differences, strict=True)))

    def _features(self, values: Float[Tensor, "2 3 H W"]) -> Iterator[Float[Tensor, "2 C h w"]]:
        """Yield the outputs that are compared, scaled to unit length over channels."""
        for before, index in pairwise((0, *self.backbone.convolutions)):
            if index - before == 3:
                values = F.max_pool2d(values, self.backbone.window, 2)
            weight, bias = (self.weights[f"features.{index}.{name}"] for name in ("weight", "bias"))
            stride, padding = (1, weight.shape[-1] // 2) if index else self.backbone.first
            values = F.conv2d(values, weight, bias, stride, padding).relu()
            if index in self.backbone.taps:
                yield values / (values.norm(dim=1, keepdim=True) + 1e-10)


class Clip:
    """Cosine similarity of images to one image or one text, by a CLIP."""

    def __init__(self, model: Any, tokenizer: Any, reference: Float[Tensor, "H W 3"] | str) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.target = self.embed_text(reference) if isinstance(reference, str) else self.embed_image(reference)

    def __call__(self, image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
        """Cosine of an image and the reference; the true image does not count."""
        return float((self.embed_image(image) * self.target).sum())

    @torch.no_grad()
    def embed_image(self, image: Float[Tensor, "H W 3"]) -> Float[Tensor, " D"]:
        """Unit vector of an image, resized, cut to a square and normalised as OpenAI's preprocessing does."""
        pixels = ImageOps.fit(Image.fromarray(to_bytes(image)), (CLIP_SIZE, CLIP_SIZE), Image.Resampling.BICUBIC)
        values = torch.from_numpy(np.array(pixels)).float() / 255.0
        values = (values - torch.tensor(CLIP_MEAN)) / torch.tensor(CLIP_STD)
        given = values.permute(2, 0, 1)[None].to(self.model.device)
        pooled = self.model.vision_model(pixel_values=given).pooler_output
        return F.normalize(self.model.visual_projection(pooled)[0], dim=-1)

    @torch.no_grad()
    def embed_text(self, text: str) -> Float[Tensor, " D"]:
        """Unit vector of a text, cut to the model's length."""
        given = self.tokenizer([text], truncation=True, return_tensors="pt").to(self.model.device)
        pooled = self.model.text_model(**given).pooler_output
        return F.normalize(self.model.text_projection(pooled)[0], dim=-1)


def flip(image: Float[Tensor, "H W 3"], truth: Float[Tensor, "H W 3"]) -> float:
    """Mean LDR-FLIP error (Andersson et al. 2020), for flicker between two renders: at 67 pixels a degree."""
    evaluator = import_extra("flip_evaluator", "metrics", "FLIP")
    pair = (each.detach().cpu().float().numpy().clip(0.0, 1.0) for each in (truth, image))
    return float(evaluator.evaluate(*pair, "LDR")[1])


def load_measures(
    names: Sequence[str], reference: Float[Tensor, "H W 3"] | str | None, *, weights: Path | None = None
) -> dict[str, Measure]:
    """Return the metrics of some of `NAMES`.

    Args:
        names: which.
        reference: what CLIP compares with: the input image on white, or the prompt.
        weights: a folder of weights; None, or where it lacks some: the hubs.

    Raises:
        ValueError: weights or the reference are missing, in one sentence.
        ImportError: a package is.
    """
    measures: dict[str, Measure] = {}
    for name in names:
        if name == "flip":
            import_extra("flip_evaluator", "metrics", "FLIP")  # A mistake is told before anything is rendered.
            measures[name] = flip
        elif name in CLIPS:
            if reference is None:
                raise ValueError(f"Expected an input image or a prompt for {name}, but the run has neither.")
            model, tokenizer = load_clip(CLIPS[name], weights)
            measures[name] = Clip(model, tokenizer, reference)
        else:
            measures[name] = Lpips(net := name.removeprefix("lpips_"), load_lpips(net, weights))
    return measures


def load_lpips(net: str, folder: Path | None) -> dict[str, Tensor]:
    """Read a backbone and its heads; the heads are published as vgg.pth and alex.pth."""
    found: dict[str, Tensor] = {}
    for name, address in ((BACKBONES[net].file, TORCHVISION), (f"{net}.pth", HEADS)):
        try:
            if folder is not None and (folder / name).is_file():
                found |= torch.load(folder / name, map_location="cpu", weights_only=True)
            else:
                found |= torch.hub.load_state_dict_from_url(
                    address + name, map_location="cpu", file_name=f"lpips-{name}", progress=False, weights_only=True
                )
        except Exception as error:
            raise _missing(f"{name} of LPIPS", address + name, folder, error) from error
    return found


def load_clip(name: str, folder: Path | None) -> tuple[Any, Any]:
    """Read a CLIP and its tokenizer from FOLDER/LAST-PART-OF-ITS-NAME, or from the hub or its cache."""
    import huggingface_hub
    from transformers import CLIPModel, CLIPTokenizer

    path = (folder or Path()) / name.rpartition("/")[2]
    try:
        if folder is None or not path.is_dir():
            try:
                weights = choose_weights(huggingface_hub.list_repo_files(name), torch.float32)
            except Exception:  # Offline: the cache is asked for any weights.
                weights = ["*.safetensors", "*.bin"]
            patterns = ["*.json", "*.txt", *weights]
            path = Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns))
        model = load_part(CLIPModel, path.parent, path.name, torch.float32)
        return model, CLIPTokenizer.from_pretrained(path, local_files_only=True)
    except Exception as error:
        raise _missing(path.name, f"the hub ({name})", folder, error) from error


def _missing(what: str, where: str, folder: Path | None, error: Exception) -> ValueError:
    """Say what is missing and how to get it."""
    place = f"{folder} or " if folder else ""
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
    return ValueError(
        f"Expected the weights {what} in {place}{where}, but they cannot be read ({reason}). Pass --weights with a "
        "folder that holds them."
    )
