"""Find a model's folder (local, embedded or on the hub) and load its parts. No code of a model folder is ever run."""

import os
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin
from torch import Tensor, nn

from hash3d.model_files import embedded_folder, expect_depth, expect_plain_files, read_configuration
from hash3d.tensors import all_finite

EMBEDDED = ("mini-zero123", "mini-sd")
"""Priors whose weights ship inside the package."""
PROJECTION, OTHER_PROJECTIONS = "clip_camera_projection", ("cc_projection",)
"""The part of a Zero123 folder whose configuration may state the pose convention, and what others call it."""
_WEIGHTS = re.compile(
    r"(?P<model>diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<first>\w+))?(?:-\d+-of-(?P<shards>\d+))?"
    r"(?:\.(?P<second>\w+))?\.(?P<format>safetensors|bin)"
)
"""A weight file of diffusers or transformers: its variant stands before or after the number of a shard."""
_OLD_NAMES = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""The attention layers of autoencoders saved before diffusers 0.12, and their names since."""


def cache_folder() -> Path:
    """Return the folder of models that were converted or made, in the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hash3d"


def is_hub_name(name: str) -> bool:
    """Whether `name` reads as owner/model and no local folder has that path."""
    plain = name.count("/") == 1 and not name.startswith((".", "/", "~")) and not name.endswith("/")
    return plain and not Path(name).exists()


def resolve_folder(name: str, parts: Iterable[str], dtype: torch.dtype = torch.float32) -> Path:
    """Return the local folder of a prior: an existing path wins, then an embedded prior's name, then the hub.

    A single file is converted to a folder in the user's cache at its first use (see `hash3d.diffusion.convert`).
    From the hub only the subfolders `parts` are fetched, in the variant that `dtype` needs (see `choose_weights`).
    Raises `FileNotFoundError` if nothing is found.
    """
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.suffix in (".safetensors", ".ckpt") and path.is_file():
        from .convert import converted_folder

        return converted_folder(path)
    if path.exists():
        raise FileNotFoundError(f"Expected the prior {name!r} to be a diffusers folder, a .safetensors or a .ckpt.")
    if name in EMBEDDED:
        if not embedded_folder(name).is_dir():
            raise FileNotFoundError(f"Expected {embedded_folder(name)} to hold the prior {name!r}, but it is missing.")
        return embedded_folder(name)
    if not is_hub_name(name):
        known = f"an existing folder, one of {', '.join(EMBEDDED)}, or a hub name (owner/model)"
        raise FileNotFoundError(f"Expected the prior to be {known}, but there is no folder {name!r}.")
    return _download(name, tuple(parts), dtype)


def _download(name: str, parts: tuple[str, ...], dtype: torch.dtype) -> Path:
    """Fetch the needed files of a hub repository. Offline (HF_HUB_OFFLINE) its cached snapshot is taken."""
    import huggingface_hub

    parts = (*parts, *OTHER_PROJECTIONS) if PROJECTION in parts else parts
    patterns = ["model_index.json", *(f"{part}/*.{ending}" for part in parts for ending in ("json", "txt"))]
    try:
        try:
            files = huggingface_hub.list_repo_files(name)
        except Exception:  # Offline: the cache is asked for any weights.
            weights = [f"{part}/*.{ending}" for part in parts for ending in ("safetensors", "bin")]
        else:
            names = {part: [path.name for path in map(Path, files) if path.parent == Path(part)] for part in parts}
            weights = [f"{part}/{file}" for part in parts for file in choose_weights(names[part], dtype)]
        return Path(huggingface_hub.snapshot_download(name, allow_patterns=patterns + weights))
    except Exception as error:
        remedy = f"Pass --prior the path of a local folder, or one of {', '.join(EMBEDDED)}."
        problem = f"Could not fetch the prior {name!r} from the hub ({type(error).__name__})."
        raise FileNotFoundError(f"{problem} {remedy}") from error


def choose_weights(names: Iterable[str], dtype: torch.dtype) -> list[str]:
    """Return the weight files to read out of a part's file names, all shards of one variant; empty if none is known.

    Safetensors win over `.bin`. In half precision a half-precision variant wins, such as fp16 or fp16_ema, else the
    files without a variant. Weights before averaging (`non_ema`) are the last resort.
    """
    half = dtype in (torch.float16, torch.bfloat16)
    groups: dict[tuple[bool, bool, bool, str], list[str]] = {}
    for name in names:
        if match := _WEIGHTS.fullmatch(name):
            variant = match["first"] or match["second"] or ""
            is_half = variant.startswith(("fp16", "bf16"))
            preferred = is_half if half else not variant
            rank = (match["format"] == "bin", "non_ema" in variant, not preferred, variant)
            groups.setdefault(rank, []).append(name)
    return sorted(groups[min(groups)]) if groups else []


def load_part(model_class: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """Load one part of a diffusers folder, for instance `unet`, in eval mode with frozen parameters.

    The model is built on the meta device, then takes the tensors of the files that `choose_weights` names. A `.bin`
    file is read by `torch.load(weights_only=True)`, which unpickles tensors and refuses all else. Raises `ValueError`
    if the part is missing or does not fit its configuration, in one sentence that names it.
    """
    path = folder / part
    if not (path / "config.json").is_file():
        raise ValueError(f"Expected the prior {folder} to hold {part}/config.json, but it is missing.")
    files = choose_weights((file.name for file in path.iterdir()), dtype)
    if not files:
        raise ValueError(f"Expected the prior {folder} to hold safetensors or .bin weights in {part}/, but got none.")
    if len({_WEIGHTS.sub(r"\g<model>", file) for file in files}) > 1:
        raise ValueError(f"Expected one model in {path}, but got {', '.join(files)}. Remove what is not of this part.")
    with name_part(path):
        tensors = {name: value for file in files for name, value in _read_tensors(path / file).items()}
        model = _build(model_class, path, len(tensors))
        assign(model, tensors, dtype)
    return model.eval().requires_grad_(False)


@contextmanager
def name_part(path: Path) -> Iterator[None]:
    """Turn an error of loading into a `ValueError` of one line that names the part; first look for odd files."""
    try:
        expect_plain_files(path)
        yield
    except Exception as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"The prior's part {path} does not load: {reason}") from error


def _read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a weight file on the CPU. Raises `ValueError` if it holds anything but named tensors, or is a part alone."""
    from safetensors.torch import load_file

    match = _WEIGHTS.fullmatch(path.name)
    count = int(match["shards"] or 1) if match else 1
    found = len(list(path.parent.glob(re.sub(r"-\d+-of-", "-*-of-", path.name)))) if count > 1 else 1
    if found != count:
        raise ValueError(f"expected {count} files like {path.name}, but got {found}.")
    if path.suffix == ".safetensors":
        return load_file(path)
    try:
        tensors = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path.name} is damaged or holds more than tensors. Convert it to safetensors.") from error
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise ValueError(f"expected {path.name} to hold named tensors alone. Convert it to safetensors.")
    return tensors


def _build(model_class: Any, path: Path, count: int) -> nn.Module:
    """Build a model on the meta device from a configuration that `count` tensors can fill."""
    config = read_configuration(path / "config.json")
    expect_depth(config, count)
    with torch.device("meta"):
        if issubclass(model_class, ModelMixin):
            model = model_class.from_config(config)
        else:
            model = model_class(model_class.config_class.from_pretrained(path, local_files_only=True))
    for layer in {repr(each): each for each in model.modules() if not list(each.children())}.values():
        # The layers whose settings no shape of a weight tells, each kind once: called with no memory.
        if isinstance(layer, nn.Conv2d):
            layer(torch.empty(1, layer.in_channels, 64, 64, device="meta"))
        elif isinstance(layer, nn.GroupNorm):
            layer(torch.empty(1, layer.num_channels, 2, 2, device="meta"))
    return model


def assign(model: nn.Module, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    """Give a model on the meta device its tensors in `dtype`. Raises `ValueError` for the first that does not fit."""
    expected = model.state_dict()
    tensors = {_current_name(name, expected): value for name, value in tensors.items()}
    found = {}
    for name, slot in expected.items():
        if name not in tensors:
            lost = len(expected.keys() - tensors.keys())
            raise ValueError(f"{lost} of its {len(expected)} tensors are missing, for instance {name}.")
        value = tensors[name]
        if value.shape != slot.shape or value.is_floating_point() != slot.is_floating_point():
            got = f"{value.dtype} {list(value.shape)}"
            raise ValueError(f"{name} does not fit its configuration: expected {list(slot.shape)}, but got {got}.")
        found[name] = value.to(dtype) if value.is_floating_point() else value
        if not all_finite(found[name]):
            raise ValueError(f"{name} holds numbers that are not finite in {dtype}. Fetch the model anew.")
    model.load_state_dict(found, assign=True)
    for name, buffer in list(model.named_buffers()):
        if buffer.is_meta:  # The positions 0, 1, ... of CLIP's embeddings, which no file holds.
            owner, _, last = name.rpartition(".")
            positions = torch.arange(buffer.shape[-1]).expand(buffer.shape)
            model.get_submodule(owner).register_buffer(last, positions, persistent=False)


def _current_name(name: str, expected: Collection[str]) -> str:
    """Rename a tensor of another layout: old attention of an autoencoder, CLIP's text model, kxic's `CCProjection`."""
    if ".attentions." in name:
        for old, new in _OLD_NAMES.items():
            name = name.replace(old, new)
    same = (name, name.removeprefix("text_model."), f"text_model.{name}", name.replace("projection.", "proj.", 1))
    return next((each for each in same if each in expected), name)
