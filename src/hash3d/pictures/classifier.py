"""Small classifiers of images, which ship with the package: a folder holds the weights and what they tell apart."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from hash3d.files import replacing, write_json
from hash3d.model_files import read_configuration


class Residual(nn.Module):
    """x + f(x), with two 3x3 convolutions in f (He et al. 2016); the shortcut is 1x1 where the shape changes."""

    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, out, 3, stride, padding=1, bias=False)
        self.second = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out), nn.BatchNorm2d(out)])
        same = width == out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(width, out, 1, stride, bias=False)

    def forward(self, features: Float[Tensor, "B C H W"]) -> Float[Tensor, "B D h w"]:
        """One block."""
        hidden = F.relu(self.norms[0](self.first(features)))
        return F.relu(self.norms[1](self.second(hidden)) + self.shortcut(features))


class ImageClassifier(nn.Module):
    """Images [B, 3, S, S] in [-1, 1] to log probabilities of several attributes.

    Args:
        widths: channels of the stages; each has two blocks and halves the side. The first stage sees half the side.
        size: pixels a side to which images are resized.
        counts: values of each attribute.
    """

    def __init__(self, widths: tuple[int, ...], size: int, counts: tuple[int, ...]) -> None:
        super().__init__()
        self.widths, self.size, self.counts = widths, size, counts
        self.stem = nn.Conv2d(3, widths[0], 3, 2, padding=1)
        blocks = []
        for stage, (width, out) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            blocks += [Residual(width, out, 1 if stage == 0 else 2), Residual(out, out, 1)]
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(widths[-1], sum(counts))

    def score(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B N"]]:
        """Log probabilities of each attribute of images of any size, on any device."""
        images = images.to(self.stem.weight)
        if images.shape[-2:] != (self.size, self.size):
            images = F.interpolate(images, (self.size, self.size), mode="bilinear", antialias=True)
        features = self.blocks(F.relu(self.stem(images))).mean((2, 3))
        return [scores.log_softmax(1) for scores in self.head(features).float().split(self.counts, dim=1)]

    def write(self, folder: Path, values: Mapping[str, list[Any]]) -> None:
        """Write `config.json`, with the values of each attribute, and `model.safetensors` in half precision."""
        write_json(folder / "config.json", {"widths": list(self.widths), "size": self.size, **values})
        state = {
            name: value.half().contiguous() if value.is_floating_point() else value
            for name, value in self.state_dict().items()
        }
        with replacing(folder / "model.safetensors") as temporary:
            save_file(state, temporary)


@functools.cache
def load_classifier(folder: Path, *attributes: str) -> tuple[ImageClassifier, dict[str, Any]]:
    """Read a folder that `ImageClassifier.write` wrote with these attributes. Returns the classifier and its values."""
    config = read_configuration(folder / "config.json")
    classifier = ImageClassifier(
        tuple(config["widths"]), config["size"], tuple(len(config[each]) for each in attributes)
    )
    classifier.load_state_dict(load_file(folder / "model.safetensors"))
    return classifier.float().eval().requires_grad_(False), config
