"""`hash3d convert FILE --out FOLDER`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from .parsing import Maybe, parse_options
from .streams import say


@dataclass(frozen=True, kw_only=True)
class Convert:
    """Turn a single file (Stable Diffusion 1, 2 or XL, Zero123) into a diffusers folder, which --prior takes."""

    file: tyro.conf.Positional[Path]
    """A .safetensors or .ckpt; of the latter only tensors are read, and no code is run."""
    out: Path
    """The folder to write."""
    pose: Maybe[Literal["xl", "stable"]] = None
    """The pose convention of a Zero123 whose file's name does not tell it; stable is Stable-Zero123's."""
    tokenizer: Maybe[str] = None
    """A folder with vocab.json and merges.txt, or a hub name, for a Stable Diffusion; by default CLIP's on the hub."""


def main(arguments: list[str]) -> int:
    """Write the folder. Returns the exit code."""
    options = parse_options(Convert, "convert", arguments)
    if not options.file.is_file():
        raise ValueError(f"Expected a file of weights, but there is no file {options.file}. Check the path.")
    killed = any(options.out.glob(".filling.*")) and not (options.out / "model_index.json").exists()
    if options.out.is_dir() and any(options.out.iterdir()) and not killed:
        raise ValueError(f"Expected --out to be a new or empty folder, but {options.out} has files.")
    from hash3d.diffusion.convert import TOKENIZER, convert_file

    convert_file(options.file, options.out, pose=options.pose, tokenizer=options.tokenizer or TOKENIZER)
    say(options.out)
    return 0
