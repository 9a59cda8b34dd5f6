"""The ComfyUI node, against a fake of the interface that it uses.

COMFYUI=folder tests it against the comfy_api of that checkout instead.
"""

import asyncio
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
import trimesh

from hash3d.export.points import read_ply
from hash3d.pictures import read_rgba
from tests.shapes import bake_texture, ball

NODE = Path(__file__).parent.parent / "integrations/comfyui/__init__.py"


class Port:
    """An input or an output."""

    def __init__(self, id, **given):
        self.id, self.given = id, given


def stand_in():
    """The names of comfy_api.latest that the node uses."""
    port = SimpleNamespace(Input=Port, Output=Port)
    names = ("Image", "Mask", "String", "Combo", "Int", "File3DAny", "File3DGLB")
    outputs = lambda *args: SimpleNamespace(args=args)  # noqa: E731
    io = SimpleNamespace(ComfyNode=object, Schema=SimpleNamespace, NodeOutput=outputs, **dict.fromkeys(names, port))
    types = SimpleNamespace(File3D=lambda path: SimpleNamespace(get_source=lambda: path))
    return SimpleNamespace(IO=io, Types=types, ComfyExtension=object)


@pytest.fixture
def node(monkeypatch, tmp_path):
    """The module, in a ComfyUI whose output folder is a temporary one; `shown` is what the progress bar was told."""
    shown, stopped = [], []

    def interrupt():
        if stopped:
            raise InterruptedError

    execution = SimpleNamespace(set_progress=lambda *given, preview_image: shown.append((*given, preview_image)))
    if root := os.environ.get("COMFYUI"):
        monkeypatch.syspath_prepend(root)
        latest, blocker = importlib.import_module("comfy_api.latest"), None
    else:
        latest, blocker = stand_in(), SimpleNamespace(ExecutionBlocker=lambda message: ("blocked", message))
        monkeypatch.setitem(sys.modules, "comfy_api.latest", latest)
    monkeypatch.setattr(latest, "ComfyAPISync", lambda: SimpleNamespace(execution=execution), raising=False)
    folders = SimpleNamespace(get_output_directory=lambda: str(tmp_path))
    management = SimpleNamespace(throw_exception_if_processing_interrupted=interrupt)
    modules = {"folder_paths": folders, "comfy.model_management": management, "comfy_execution.graph_utils": blocker}
    for name, module in modules.items():
        for parent in ({name.partition(".")[0]} - sys.modules.keys()) if not root else ():
            monkeypatch.setitem(sys.modules, parent, ModuleType(parent))
        if module:
            monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("hash3d_comfyui", NODE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.shown, module.stopped = shown, stopped
    return module


def test_the_schema_names_what_execute_takes(node):
    (kind,) = asyncio.run(asyncio.run(node.comfy_entrypoint()).get_node_list())
    schema = kind.define_schema()
    assert {each.id for each in schema.inputs} == {*kind.execute.__annotations__} - {"return"}
    assert [each.id for each in schema.outputs] == ["splats", "mesh", "views"]
    assert schema.node_id == "Hash3DGenerate"


def run(node, *options, **given):
    """Run the node as ComfyUI does, without gradients."""
    words = ["--scale", "mini", "--steps", "2", "--device", "cpu", *map(str, options)]
    named = {"text": "", "makes": node.SPLATS, "quality": "fast", "seed": 0, "options": " ".join(words)}
    with torch.inference_mode():
        return node.Hash3DGenerate.execute(**(named | given))


def test_a_picture_becomes_splats_and_their_mesh(node, picture_file, prior_folder, tmp_path):
    node.bake_model = lambda *_: bake_texture(
        ball(12), lambda points: points.clamp(0.0, 1.0), size=32
    )  # The real one takes seconds.
    rgba = torch.from_numpy(read_rgba(picture_file))[None]
    splats, mesh, views = run(node, "--prior", prior_folder, image=rgba[..., :3], mask=1.0 - rgba[..., 3]).args
    (kept,) = tmp_path.glob("hash3d/*.png")
    assert torch.equal(torch.from_numpy(read_rgba(kept))[..., 3], rgba[0, ..., 3])
    assert len(read_ply(Path(splats.get_source()))["means"]) > 100
    assert len(trimesh.load(mesh.get_source(), force="mesh").faces) > 10
    assert views.shape == (1, 32, 9 * 32, 3)
    assert node.shown == [(1, 2, None), (2, 2, None)]


def test_cancel_ends_the_run_between_two_steps(node, text_prior_folder, tmp_path):
    node.stopped.append(True)
    with pytest.raises(InterruptedError):
        run(node, "--prior", text_prior_folder, text="a red mug")
    assert node.shown == []


def test_a_mask_of_another_size_fits_the_picture(node, tmp_path):
    path = node.save_input(tmp_path / "a.png", torch.ones(2, 96, 64, 3), torch.zeros(2, 64, 64))
    assert (read_rgba(path)[..., 3] == 1.0).all()


def test_an_image_with_an_alpha_channel_keeps_it_also_under_a_mask(node, tmp_path):
    image, mask = torch.rand(1, 32, 32, 4, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 32, 32)
    mask[:, :16] = 1.0
    for given, kept in ((None, 1.0), (mask, 1.0 - mask[0]), (mask[0], 1.0 - mask[0])):
        alpha = read_rgba(node.save_input(tmp_path / "a.png", image, given))[..., 3]
        assert torch.allclose(torch.from_numpy(alpha), image[0, ..., 3] * kept, atol=1 / 255)
