"""A ComfyUI node (V3 schema): a picture or a sentence in, splats and a mesh out.

ComfyUI loads this folder from its `custom_nodes` and calls `comfy_entrypoint`.
"""

import math
import shlex
import time
from pathlib import Path

import folder_paths
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy_api.latest import IO, ComfyAPISync, ComfyExtension, Types
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from hash3d.cli.generate import build_recipe
from hash3d.cli.host import choose_device
from hash3d.cli.options import parse
from hash3d.cli.visits import SYSTEMS
from hash3d.export.mesh import write_glb
from hash3d.export.turntable import save_image
from hash3d.files import make_folder
from hash3d.pictures import read_rgba
from hash3d.training.guide import keep_priors
from hash3d.training.outputs import bake_model, load_asset
from hash3d.training.run import Run
from hash3d.training.trainer import Trainer
from hash3d.training.watch import Metrics

SPLATS, MESH = "splats, and a mesh of them", "textured mesh"
PREVIEW_EVERY = 25
"""Steps between two previews on the node."""


class Hash3DGenerate(IO.ComfyNode):
    """Run one of hash3d's systems."""

    @classmethod
    def define_schema(cls) -> IO.Schema:
        """The node's inputs and outputs."""
        return IO.Schema(
            node_id="Hash3DGenerate",
            display_name="hash3d: picture or text to 3D",
            category="3d",
            description="Score distillation that reuses features. Without a picture the text is what is made.",
            is_output_node=True,
            inputs=[
                IO.Image.Input("image", optional=True, tooltip="one object, alone or on a plain background"),
                IO.Mask.Input("mask", optional=True, tooltip="what is not the object, as Load Image gives it"),
                IO.String.Input("text", default="", multiline=True, tooltip="used where there is no picture"),
                IO.Combo.Input("makes", options=[SPLATS, MESH], default=SPLATS),
                IO.Combo.Input("quality", options=["fast", "good", "best"], default="good"),
                IO.Int.Input("seed", default=0, min=0, max=2**31 - 1, control_after_generate=True),
                IO.String.Input("options", default="", tooltip="of hash3d generate, such as --prior a/folder"),
            ],
            outputs=[
                IO.File3DAny.Output("splats", display_name="splats"),
                IO.File3DGLB.Output("mesh", display_name="mesh"),
                IO.Image.Output("views", display_name="views"),
            ],
        )

    @classmethod
    def execute(
        cls, text: str, makes: str, quality: str, seed: int, options: str,
        image: torch.Tensor | None = None, mask: torch.Tensor | None = None,
    ) -> IO.NodeOutput:  # fmt: skip
        """Run, and show how it goes on. Images are [B, H, W, 3] in [0, 1], masks [B, H, W]; the first is taken."""
        kind = "prompt" if image is None else "image"
        system = SYSTEMS[kind, "mesh" if makes == MESH else "splats"]
        folder = Path(folder_paths.get_output_directory()) / "hash3d" / f"{system}-{time.time_ns()}"
        value = text if image is None else str(save_input(folder.with_suffix(".png"), image, mask))
        words = [system, f"--quality={quality}", f"--seed={seed}", f"--{kind}={value}", *shlex.split(options)]
        given = parse([*words, f"--checkpoint-every={PREVIEW_EVERY}"])
        recipe, device, progress = build_recipe(given), choose_device(given.device), ComfyAPISync().execution

        def show(trainer: Trainer, metrics: Metrics) -> None:
            throw_exception_if_processing_interrupted()
            picture, step = folder / "preview.png", int(metrics["step"]) + 1
            fresh = step % PREVIEW_EVERY == 1 and picture.is_file()
            progress.set_progress(step, recipe.steps, preview_image=Image.open(picture) if fresh else None)

        with torch.inference_mode(False), torch.enable_grad():  # ComfyUI runs nodes without gradients.
            Run(recipe, folder, device=device.type, priors=keep_priors(recipe, device), progress=show).execute()
            splats, mesh = folder / "model.ply", folder / "model.glb"
            if not mesh.is_file():
                model, shown = load_asset(folder, torch.device("cpu"))
                write_glb(mesh, bake_model(model, recipe, shown))
        views = torch.from_numpy(read_rgba(folder / "preview.png", math.inf))[None, ..., :3]
        found = Types.File3D(str(splats)) if splats.is_file() else ExecutionBlocker(None)
        return IO.NodeOutput(found, Types.File3D(str(mesh)), views)


def save_input(path: Path, image: torch.Tensor, mask: torch.Tensor | None) -> Path:
    """Write the first image as a PNG, transparent where its alpha channel and the mask say so. Returns its path."""
    picture = image[:1].float().cpu().movedim(-1, 1)
    alpha = picture[:, 3:] if picture.shape[1] == 4 else torch.ones_like(picture[:, :1])
    if mask is not None:  # Load Image gives pictures without an alpha channel one of 64 pixels.
        own = 1.0 - mask.reshape(-1, 1, *mask.shape[-2:])[:1].float().cpu()
        alpha = alpha * torch.nn.functional.interpolate(own, picture.shape[2:], mode="bilinear")
    make_folder(path.parent)
    save_image(torch.cat([picture[:, :3], alpha], dim=1)[0].movedim(0, -1), path)
    return path


class Hash3DExtension(ComfyExtension):
    """The nodes of this folder."""

    async def get_node_list(self) -> list[type[IO.ComfyNode]]:
        """The one node."""
        return [Hash3DGenerate]


async def comfy_entrypoint() -> Hash3DExtension:
    """What ComfyUI calls."""
    return Hash3DExtension()
