"""Where a prior's parts come from: a folder on disk, a prior inside this package, or the hub. Never unpickled code.

Only safetensors are read, and no code that a model folder carries is run.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from diffusers import ModelMixin

EMBEDDED = ("mini-zero123", "mini-sd")
"""Priors whose weights ship inside the package."""


def embedded_folder(name: str) -> Path:
    """The folder of an embedded prior."""
    return Path(str(resources.files("hash3d"))) / "assets" / name


def resolve_folder(name: str, kind: str = "prior") -> Path:
    """The local folder of a model: an existing path wins, then an embedded prior's name, then the hub.

    Raises `FileNotFoundError` with one sentence, which calls it a `kind`, if nothing is found.
    """
    path = Path(name).expanduser()
    embedded = f", one of {', '.join(EMBEDDED)}" if kind == "prior" else ""
    if path.is_dir():
        return path
    if path.exists():
        raise FileNotFoundError(f"Expected the {kind} {name!r} to be a diffusers folder, but it is a file.")
    if embedded and name in EMBEDDED:
        if not embedded_folder(name).is_dir():
            raise FileNotFoundError(f"Expected {embedded_folder(name)} to hold the prior {name!r}, but it is missing.")
        return embedded_folder(name)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise FileNotFoundError(
            f"Expected the {kind} to be an existing folder{embedded}, or a hub name (owner/model), "
            f"but there is no folder {name!r}."
        )
    return _download(name, kind)


def _download(name: str, kind: str) -> Path:
    """Fetch the safetensors and configurations of a hub repository (honours HF_HUB_OFFLINE)."""
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except Exception as error:
        raise FileNotFoundError(
            f"Could not fetch the {kind} {name!r} from the hub ({type(error).__name__}). "
            f"Pass --{kind.replace(' ', '-')} the path of a local folder"
            + (f", or one of {', '.join(EMBEDDED)}." if kind == "prior" else ".")
        ) from error


def load_part(model_class: Any, folder: Path, part: str, dtype: torch.dtype) -> Any:
    """One part of a diffusers folder, for instance `unet`, in eval mode with frozen parameters.

    Raises `ValueError` with one sentence that names the part if it is missing, or does not fit its configuration.
    """
    if not (folder / part / "config.json").is_file():
        raise ValueError(f"Expected the prior {folder} to hold {part}/config.json, but it is missing.")
    weights = sorted((folder / part).glob("*.safetensors"))
    if not weights:
        raise ValueError(f"Expected the prior {folder} to hold safetensors in {part}/, but there are none.")
    variant = "fp16" if all(".fp16" in file.name for file in weights) else None
    # diffusers' low_cpu_mem_usage would need accelerate, which the package does not require.
    options = {"low_cpu_mem_usage": False} if issubclass(model_class, ModelMixin) else {}
    try:
        with _without_progress_bars():
            model, info = model_class.from_pretrained(
                folder / part,
                torch_dtype=dtype,
                variant=variant,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **options,
            )
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"The prior's part {folder / part} does not load: {reason}") from error
    faults = {kind: keys for kind in ("missing_keys", "mismatched_keys") if (keys := list(info.get(kind, ())))}
    if faults:
        kind, keys = next(iter(faults.items()))
        raise ValueError(
            f"The prior's part {folder / part} does not fit its configuration: {len(keys)} {kind.replace('_', ' ')}, "
            f"for instance {keys[0]}."
        )
    return model.eval().requires_grad_(False)


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Transformers draws a bar for each part that it loads; a run has a line of its own."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object on disk. Raises `ValueError` with one sentence that names the file."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"Expected the prior to hold a readable {path}: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"Expected {path} to hold names and values, but it holds a {type(value).__name__}.")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object, and the folder it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
