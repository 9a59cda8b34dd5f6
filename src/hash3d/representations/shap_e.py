"""Start points from Shap-E (Jun and Nichol 2023), a diffusion model of shapes, given a text.

The folder is that of diffusers' `ShapEPipeline`. GaussianDreamer (06f24c0) has the same model with fine-tuned weights.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hash3d.model_files import expect_plain_files, read_configuration

from .mesh_file import linear_to_srgb, to_world
from .point_start import GrowthConfig, PointStart, grow_points


@dataclass(frozen=True, kw_only=True)
class ShapEConfig:
    """Which shape; the defaults are GaussianDreamer's.

    Args:
        folder: A diffusers folder of Shap-E.
        prompt: The text.
        guidance_scale: Weight of the text over no text. Shap-E itself uses 15.
        num_steps: Denoising steps.
        scale: Scene units of one unit of Shap-E, whose shapes lie in [-1, 1]^3.
        growth: Whether points grow around the shape's vertices, in Shap-E's units.
    """

    folder: Path
    prompt: str
    guidance_scale: float = 15.0
    num_steps: int = 64
    scale: float = 1.6
    growth: GrowthConfig | None = field(default_factory=GrowthConfig)

    def build(self, generator: torch.Generator, device: str = "cpu") -> PointStart:
        """Generate the shape; every number comes from `generator` (on the CPU)."""
        pipeline = load_shap_e(self.folder).to(device)
        pipeline.set_progress_bar_config(disable=True)
        options = {"guidance_scale": self.guidance_scale, "num_inference_steps": self.num_steps}
        start = from_shap_e(pipeline(self.prompt, generator=generator, output_type="mesh", **options).images[0])
        if self.growth is not None:
            start = grow_points(start, self.growth, generator)
        return start.scale(self.scale)


def load_shap_e(folder: Path) -> Any:
    """Load a local folder in float32, by Shap-E's classes whatever its index says; `ValueError` if it does not."""
    from diffusers import HeunDiscreteScheduler, PriorTransformer, ShapEPipeline
    from diffusers.pipelines.shap_e import ShapERenderer
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    kinds = {
        "prior": PriorTransformer, "text_encoder": CLIPTextModelWithProjection, "tokenizer": CLIPTokenizer,
        "scheduler": HeunDiscreteScheduler, "shap_e_renderer": ShapERenderer,
    }  # fmt: skip
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"Expected a diffusers folder of Shap-E, but {folder} holds no model_index.json.")
    index = read_configuration(folder / "model_index.json")
    if index.get("_class_name") != "ShapEPipeline":
        raise ValueError(f"Expected a folder of Shap-E, but {folder} says {str(index.get('_class_name'))[:40]!r}.")
    try:
        return ShapEPipeline(**{name: _load_part(kind, folder / name) for name, kind in kinds.items()})
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"Expected a folder of Shap-E in safetensors, but {folder} does not load: {reason}") from error


def _load_part(kind: Any, path: Path) -> Any:
    """Load a model from safetensors, a tokenizer or a scheduler."""
    expect_plain_files(path)
    for file in path.glob("*config.json"):
        read_configuration(file)
    if not issubclass(kind, torch.nn.Module):
        return kind.from_pretrained(path, local_files_only=True)
    halves = any(path.glob("*.fp16.safetensors")) and not any(path.glob("*model.safetensors"))
    options = {"use_safetensors": True, "low_cpu_mem_usage": False, "variant": "fp16" if halves else None}
    return kind.from_pretrained(path, local_files_only=True, **options).float()


def from_shap_e(mesh: Any) -> PointStart:
    """Return the vertices of what the pipeline returns as a mesh (`MeshDecoderOutput`), in its own units.

    Shap-E has z up and fronts at -y (diffusers 0.42.1, shap_e/camera.py); its linear colours become sRGB.
    """
    linear = torch.stack([mesh.vertex_channels[name] for name in "RGB"], dim=-1).detach().cpu()
    colors = torch.from_numpy(linear_to_srgb(linear.numpy())).float()
    return PointStart(points=to_world(mesh.verts.detach().cpu(), "z"), colors=colors)
